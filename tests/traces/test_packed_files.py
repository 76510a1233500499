"""Files in any packing that the field uses: compression, Parquet, JSON arrays, a pipe."""

import bz2
import io
import json
import lzma
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from tests.traces.conftest import WriteTrace
from traces.errors import TraceError
from traces.read import read_trace
from traces.rows import TraceRow

AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    "2023-11-16 18:17:03.9799600,4808,10\n"
    "2023-11-16 18:17:05.4799600,31,1\n"
)
ROWS = [TraceRow(0.0, "", 4808, 10), TraceRow(1.5, "", 31, 1)]

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstandard.ZstdCompressor().compress,
}


@pytest.mark.parametrize("kind", PACKERS)
def test_a_compressed_file_is_read_under_any_name(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_bytes(PACKERS[kind](AZURE.encode()))

    assert list(read_trace([path])) == ROWS


@pytest.mark.parametrize("kind", PACKERS)
def test_a_compressed_file_that_is_cut_off_is_an_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "trace.csv"
    text = AZURE + "".join(f"2023-11-16 18:17:06.{i:06d},{i},1\n" for i in range(9999))
    path.write_bytes(PACKERS[kind](text.encode())[:-40])

    with pytest.raises(TraceError, match="cut off or damaged"):
        list(read_trace([path]))


def test_a_zstd_file_of_two_frames_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv.zst"
    halves = AZURE.encode()[:70], AZURE.encode()[70:]
    path.write_bytes(b"".join(zstandard.ZstdCompressor().compress(half) for half in halves))

    assert list(read_trace([path])) == ROWS


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_cells_may_have_another_delimiter(write_trace: WriteTrace, delimiter: str) -> None:
    assert list(read_trace([write_trace(AZURE.replace(",", delimiter))])) == ROWS


@pytest.mark.parametrize(
    "header", [str.lower, str.upper, lambda text: text.replace("Tokens", "_tokens")]
)
def test_names_of_columns_match_in_any_case(
    write_trace: WriteTrace, header: Callable[[str], str]
) -> None:
    names, rest = AZURE.split("\n", 1)

    assert list(read_trace([write_trace(header(names) + "\n" + rest)])) == ROWS


def test_two_columns_that_differ_in_case_only_are_an_error(write_trace: WriteTrace) -> None:
    path = write_trace("TIMESTAMP,contexttokens,CONTEXTTOKENS,GeneratedTokens\n")

    with pytest.raises(TraceError, match="contexttokens and CONTEXTTOKENS are the same column"):
        list(read_trace([path]))


def test_a_parquet_file_is_read_as_the_table_that_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "trace.parquet"
    columns: dict[str, list[Any]] = {
        "timestamp": [0, 1500],
        "input_length": [4808, 31],
        "output_length": [10, 1],
        "hash_ids": [[1, 2], [1]],
    }
    pq.write_table(pa.table(columns), path)

    assert list(read_trace([path])) == ROWS


def test_instants_of_a_parquet_file_keep_their_nanoseconds(tmp_path: Path) -> None:
    path = tmp_path / "trace.parquet"
    stamps = pa.array([1_700_000_000_000_000_100, 1_700_000_001_000_000_350], pa.timestamp("ns"))
    ones = pa.array([1, 1], pa.int64())
    names = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"]
    pq.write_table(pa.Table.from_arrays([stamps, ones, ones], names), path)

    assert [row.at_s for row in read_trace([path])] == [0.0, pytest.approx(1.00000025, abs=1e-12)]


def test_a_json_array_is_read_as_json_lines(write_trace: WriteTrace) -> None:
    keys = ("timestamp", "input_length", "output_length")
    records = [dict(zip(keys, row, strict=True)) for row in ((0, 4808, 10), (1500, 31, 1))]

    assert list(read_trace([write_trace(json.dumps(records, indent=1), "a.json")])) == ROWS


def test_a_json_array_with_a_wrong_element_names_its_number(write_trace: WriteTrace) -> None:
    good = {"timestamp": 0, "input_length": 1, "output_length": 1}

    with pytest.raises(TraceError, match="'input_length': the field is missing") as caught:
        list(read_trace([write_trace(json.dumps([good, {"timestamp": 1}]))]))
    assert caught.value.line == 2


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_a_trace_comes_through_a_pipe(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "traces", "describe", name, "--json"],
        cwd=Path(__file__).parents[2],
        input=AZURE.encode(),
        capture_output=True,
        check=True,
    )

    numbers = json.loads(done.stdout)
    assert (numbers["num_rows"], numbers["span_s"]) == (2, 1.5)


def test_a_tar_archive_inside_a_compressed_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "trace.tar.xz"
    with tarfile.open(path, "w:xz") as archive:
        member = tarfile.TarInfo("trace.csv")
        member.size = len(AZURE)
        archive.addfile(member, io.BytesIO(AZURE.encode()))

    with pytest.raises(TraceError, match="this is a tar archive"):
        list(read_trace([path]))


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:aa\n", "pointer of Git LFS"),
        ("<!DOCTYPE html>\n<html></html>\n", "HTML page"),
    ],
)
def test_a_page_in_place_of_the_file_is_named(
    write_trace: WriteTrace, start: str, kind: str
) -> None:
    with pytest.raises(TraceError, match=kind):
        list(read_trace([write_trace(start)]))


def test_stamps_of_several_time_zones_are_one_clock(write_trace: WriteTrace) -> None:
    stamps = ["18:00:00+0000", "20:00:01+02:00", "18:00:02Z", "13:00:03-05", "18:00:04"]
    text = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(
        f"2023-11-16 {stamp},1,1\n" for stamp in stamps
    )

    assert [row.at_s for row in read_trace([write_trace(text)])] == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_functions_of_two_apps_stay_apart_under_a_header_in_lower_case(
    write_trace: WriteTrace,
) -> None:
    rows = list(read_trace([write_trace("hashapp;hashfunction;1\na;f;1\nb;f;1\n")]))

    assert sorted(row.source for row in rows) == ["a/f", "b/f"]
