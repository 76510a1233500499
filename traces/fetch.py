"""Downloads that resume after a broken connection and never leave a wrong file.

Bytes are written to `NAME.part`. If a part exists, after a dropped connection or a crash of an
earlier process, an HTTP Range request continues it. If the server ignores the range, the part is
written from its beginning. The part is renamed if its length and digest are right, else deleted.
"""

import hashlib
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import cast

from traces.catalogue import OfficialFile
from traces.errors import FetchError, TraceError

CHUNK_BYTES = 1 << 18
TIMEOUT_S = 30.0
MAX_ATTEMPTS = 5  # in a row without a byte of progress

# Called after each chunk with the bytes that are there, and the bytes of the whole file if known.
Progress = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True)
class _Answer:
    """A server's answer to a request for the bytes of a file from an offset on.

    Args:
        offset: The first byte of the answer; 0 if the server ignored the range.
        total_bytes: Length of the whole file; None if not announced.
    """

    response: HTTPResponse
    offset: int
    total_bytes: int | None


def fetch(
    file: OfficialFile,
    folder: Path,
    progress: Progress | None = None,
    pause_s: float = 1.0,
) -> Path:
    """Return the path of a file in `folder`, and download it if it is not there.

    Args:
        progress: Called after each chunk.
        pause_s: Pause after the first failed attempt; it grows with each further one.

    Raises:
        FetchError: The download failed, or the bytes that are there are not the official ones.
        TraceError: There is no such folder.
    """
    if not folder.is_dir():
        raise TraceError("no such directory; create it first", folder)
    target = folder / file.file_name
    if target.exists():
        _check(file, target, target.stat().st_size)
        return target
    part = target.with_name(target.name + ".part")
    expected_bytes = _download(file, part, progress or _silent, pause_s)
    try:
        _check(file, part, expected_bytes)
    except FetchError:
        part.unlink()
        raise
    part.replace(target)
    return target


def _silent(done_bytes: int, total_bytes: int | None) -> None:
    """Show no progress."""


def _download(file: OfficialFile, part: Path, progress: Progress, pause_s: float) -> int | None:
    """Complete `part`; return the length that the server announced."""
    attempts = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            return _receive(file, part, progress)
        except (OSError, HTTPException) as error:
            _give_up_if_refused(file, error)
            progressed = part.exists() and part.stat().st_size > before
            attempts = 1 if progressed else attempts + 1
            if attempts >= MAX_ATTEMPTS:
                raise FetchError(
                    f"{file.url}: {attempts} attempts failed in a row, the last with {error!r}; "
                    f"{part} has the bytes received so far; run the command again to resume"
                ) from error
            time.sleep(pause_s * attempts)


def _give_up_if_refused(file: OfficialFile, error: Exception) -> None:
    """Raise FetchError for a status 4xx other than 429, which another attempt cannot change."""
    if isinstance(error, urllib.error.HTTPError) and error.code < 500 and error.code != 429:
        raise FetchError(f"{file.url}: the server answers {error.code} {error.reason}") from error


def _receive(file: OfficialFile, part: Path, progress: Progress) -> int | None:
    """Download over one connection; return the length that the server announced.

    Raises:
        OSError, HTTPException: The connection broke before the end.
    """
    offset = part.stat().st_size if part.exists() else 0
    answer = _ask(file, offset)
    if answer is None:
        return offset
    with answer.response as response, part.open("r+b" if answer.offset else "wb") as out:
        out.seek(answer.offset)
        done = answer.offset
        while chunk := response.read(CHUNK_BYTES):
            out.write(chunk)
            done += len(chunk)
            progress(done, answer.total_bytes)
    if answer.total_bytes is not None and done < answer.total_bytes:
        raise ConnectionError(f"the connection ended at byte {done} of {answer.total_bytes}")
    return answer.total_bytes


def _ask(file: OfficialFile, offset: int) -> _Answer | None:
    """Request the bytes from `offset` on; return None if the file ends there.

    If the file is shorter than `offset`, request all of it.
    """
    headers = {"User-Agent": "serverless-llm-toolkit", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    request = urllib.request.Request(file.url, headers=headers)  # noqa: S310 - from the catalogue
    try:
        response = cast("HTTPResponse", urllib.request.urlopen(request, timeout=TIMEOUT_S))  # noqa: S310
    except urllib.error.HTTPError as error:
        if error.code != 416 or not offset:
            raise
        error.close()
        ends_there = error.headers.get("Content-Range", "").endswith(f"/{offset}")
        return None if ends_there else _ask(file, 0)
    if response.status == 206:
        total = response.headers.get("Content-Range", "").rsplit("/", 1)[-1]
        return _Answer(response, offset, int(total) if total.isdigit() else None)
    length = response.headers.get("Content-Length", "")
    return _Answer(response, 0, int(length) if length.isdigit() else None)


def _check(file: OfficialFile, path: Path, expected_bytes: int | None) -> None:
    """Raise FetchError if the bytes are not the official ones."""
    size = path.stat().st_size
    for known in (file.size_bytes, expected_bytes):
        if known is not None and size != known:
            raise FetchError(
                f"{path} has {size} bytes, but {file.name} has {known}: delete it and retry"
            )
    if file.sha256 is None:
        return
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != file.sha256:
        raise FetchError(
            f"{path} has sha256 {digest}, but {file.name} has {file.sha256}: delete it and retry"
        )
