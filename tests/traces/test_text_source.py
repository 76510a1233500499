import gzip
from pathlib import Path

import pytest

from tests.traces.conftest import WriteTrace
from traces.errors import TraceError
from traces.read import read_trace
from traces.text_source import BLOCK_LINES, TextSource

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
ROW = "2023-11-16 18:17:03.9799600,4808,10\n"


def lines_of(path: Path) -> list[str]:
    return [line for block in TextSource(path).blocks() for line in block]


def test_gzip_is_recognised_by_its_first_bytes_and_not_by_its_name(write_trace: WriteTrace) -> None:
    zipped = write_trace("a\nb\n", "trace.csv", zipped=True)
    plain = write_trace("a\nb\n", "plain.csv.gz")

    assert lines_of(zipped) == lines_of(plain) == ["a\n", "b\n"]


def test_a_byte_order_mark_and_windows_line_ends_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_bytes(b"\xef\xbb\xbf" + (HEADER + ROW).replace("\n", "\r\n").encode())

    rows = list(read_trace([path]))

    assert [(row.input_tokens, row.output_tokens) for row in rows] == [(4808, 10)]


def test_the_line_number_counts_over_blocks(write_trace: WriteTrace) -> None:
    path = write_trace("x\n" * (BLOCK_LINES + 5))
    source = TextSource(path)

    ends = [source.line_number for _ in source.blocks()]

    assert ends == [1, BLOCK_LINES + 1, BLOCK_LINES + 5]


def test_a_truncated_gzip_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "cut.gz"
    path.write_bytes(gzip.compress((HEADER + ROW * 5000).encode())[:-200])

    with pytest.raises(TraceError, match="compressed stream is cut off or damaged") as caught:
        list(read_trace([path]))
    assert caught.value.path == path


def test_damaged_gzip_bytes_are_an_error(tmp_path: Path) -> None:
    data = bytearray(gzip.compress((HEADER + ROW * 5000).encode()))
    data[40:80] = b"\x00" * 40
    path = tmp_path / "bad.gz"
    path.write_bytes(bytes(data))

    with pytest.raises(TraceError, match=r"damaged|UTF-8"):
        list(read_trace([path]))


def test_text_that_is_not_utf8_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "latin1.csv"
    path.write_bytes((HEADER + ROW).encode() + "2023-11-16 18:17:04,4808,1\xe9\n".encode("latin-1"))

    with pytest.raises(TraceError, match=r"not UTF-8.*0xe9"):
        list(read_trace([path]))


def test_utf16_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "utf16.csv"
    path.write_bytes((HEADER + ROW).encode("utf-16"))

    with pytest.raises(TraceError, match="not UTF-8"):
        list(read_trace([path]))


def test_a_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="this is a directory"):
        list(read_trace([tmp_path]))


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"none\.csv: no such file"):
        list(read_trace([tmp_path / "none.csv"]))


@pytest.mark.parametrize(
    ("magic", "name"),
    [(b"Rar!\x1a\x07", "RAR"), (b"7z\xbc\xaf", "7z"), (b"PK\x03\x04", "zip"), (b"PAR1", "Parq")],
)
def test_an_archive_is_refused_with_its_kind(tmp_path: Path, magic: bytes, name: str) -> None:
    path = tmp_path / "archive"
    path.write_bytes(magic + b"\x00" * 32)

    with pytest.raises(TraceError, match=name):
        list(read_trace([path]))
