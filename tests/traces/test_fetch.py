"""Downloads from a local server that drops connections, ignores ranges or serves wrong bytes."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from traces.catalogue import CATALOGUE, OfficialFile, official_file
from traces.errors import FetchError, TraceError
from traces.fetch import MAX_ATTEMPTS, fetch

CONTENT = bytes(range(256)) * 4096  # 1 MiB
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Server(HTTPServer):
    """Serves CONTENT under /file.csv."""

    knows_ranges = True
    sends_length = True
    drop_after: int | None = None  # bytes of each answer before the connection is cut
    status: int | None = None  # answer with this in place of the file

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.ranges: list[str | None] = []

    def file(self, size_bytes: int | None = None, sha256: str | None = None) -> OfficialFile:
        url = f"http://127.0.0.1:{self.server_port}/file.csv"
        return OfficialFile(
            name="file",
            url=url,
            licence="none",
            note="for tests",
            size_bytes=size_bytes,
            sha256=sha256,
        )


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers["Range"]
        self.server.ranges.append(wanted)
        if self.server.status is not None:
            self.send_error(self.server.status)
            return
        start = int(wanted[6:-1]) if wanted and self.server.knows_ranges else 0
        if start >= len(CONTENT):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(CONTENT)}")
            self.end_headers()
            return
        body = CONTENT[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        if self.server.sends_length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if self.server.drop_after is None else body[: self.server.drop_after])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Log nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield running
        finally:
            running.shutdown()
            thread.join()


def test_a_file_arrives_whole_under_its_own_name(server: Server, tmp_path: Path) -> None:
    shown: list[tuple[int, int | None]] = []

    path = fetch(
        server.file(len(CONTENT), DIGEST), tmp_path, lambda done, total: shown.append((done, total))
    )

    assert path == tmp_path / "file.csv"
    assert path.read_bytes() == CONTENT
    assert shown[-1] == (len(CONTENT), len(CONTENT))
    assert list(tmp_path.iterdir()) == [path]


def test_a_dropped_connection_is_resumed_where_it_broke(server: Server, tmp_path: Path) -> None:
    server.drop_after = 400_000

    path = fetch(server.file(sha256=DIGEST), tmp_path, pause_s=0.0)

    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=400000-", "bytes=800000-"]


def test_a_later_call_resumes_the_part_of_an_earlier_one(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.csv.part").write_bytes(CONTENT[:1000])

    path = fetch(server.file(sha256=DIGEST), tmp_path)

    assert path.read_bytes() == CONTENT
    assert server.ranges == ["bytes=1000-"]


def test_a_server_without_ranges_sends_the_file_again(server: Server, tmp_path: Path) -> None:
    server.knows_ranges = False
    (tmp_path / "file.csv.part").write_bytes(b"x" * (len(CONTENT) + 1000))

    path = fetch(server.file(sha256=DIGEST), tmp_path)

    assert path.read_bytes() == CONTENT


def test_a_part_that_is_longer_than_the_file_is_begun_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.csv.part").write_bytes(b"x" * (len(CONTENT) + 1000))

    path = fetch(server.file(), tmp_path)

    assert path.read_bytes() == CONTENT
    assert server.ranges == [f"bytes={len(CONTENT) + 1000}-", None]


def test_a_part_that_was_already_complete_is_only_checked(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.csv.part").write_bytes(CONTENT)

    path = fetch(server.file(sha256=DIGEST), tmp_path)

    assert path.read_bytes() == CONTENT


def test_an_answer_without_a_length_is_accepted(server: Server, tmp_path: Path) -> None:
    server.sends_length = False

    assert fetch(server.file(sha256=DIGEST), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("size_bytes", "sha256", "problem"),
    [(None, "0" * 64, "has sha256"), (len(CONTENT) + 1, None, "has 1048576 bytes")],
)
def test_wrong_bytes_are_deleted(
    server: Server, tmp_path: Path, size_bytes: int | None, sha256: str | None, problem: str
) -> None:
    with pytest.raises(FetchError, match=problem):
        fetch(server.file(size_bytes, sha256), tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_a_download_without_progress_is_given_up(server: Server, tmp_path: Path) -> None:
    server.drop_after = 0

    with pytest.raises(FetchError, match="attempts failed in a row"):
        fetch(server.file(), tmp_path, pause_s=0.0)

    assert len(server.ranges) == MAX_ATTEMPTS
    assert not (tmp_path / "file.csv").exists()


def test_a_refusal_is_not_tried_again(server: Server, tmp_path: Path) -> None:
    server.status = 404

    with pytest.raises(FetchError, match="the server answers 404"):
        fetch(server.file(), tmp_path, pause_s=0.0)

    assert len(server.ranges) == 1


def test_a_busy_server_is_tried_again(server: Server, tmp_path: Path) -> None:
    server.status = 503

    with pytest.raises(FetchError, match="503"):
        fetch(server.file(), tmp_path, pause_s=0.0)

    assert len(server.ranges) == MAX_ATTEMPTS


def test_a_file_that_is_there_is_checked_and_not_downloaded(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.csv").write_bytes(CONTENT)

    assert fetch(server.file(len(CONTENT), DIGEST), tmp_path) == tmp_path / "file.csv"
    with pytest.raises(FetchError, match="has sha256"):
        fetch(server.file(sha256="0" * 64), tmp_path)

    assert server.ranges == []


def test_a_missing_folder_is_an_error(server: Server, tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="no such directory"):
        fetch(server.file(), tmp_path / "none")


def test_the_catalogue_has_no_name_twice_and_whole_digests() -> None:
    names = [file.name for file in CATALOGUE]

    assert len(set(names)) == len(names)
    assert {len(file.sha256) for file in CATALOGUE if file.sha256 is not None} == {64}
    assert all(file.url.startswith("https://") and "." in file.file_name for file in CATALOGUE)
    assert official_file("azure-llm-2024-code").size_bytes == 691_989_454


def test_the_error_for_an_unknown_official_file_lists_the_names() -> None:
    with pytest.raises(TraceError, match="no official file 'x'; there are azure-llm-2023-code"):
        official_file("x")
