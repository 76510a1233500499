"""Remote storage as ranges of named objects: HTTP servers, and S3-compatible stores by signed URLs.

A range that breaks off is continued where it stopped. An object that changes meanwhile is an error.
HTTP uses the standard library and reads into place; `boto3`, imported lazily, signs S3 URLs.
"""

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from types import TracebackType
from typing import Any, Protocol
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from sllmcore.errors import UsageError
from sllmreal.checkpoint.lifetime import Lifetime
from sllmreal.loader.errors import RemoteError, RemoteStatusError
from sllmreal.loader.http_connection import Head, HttpConnection, HttpError

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_MAX_REDIRECTS = 5
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_RETRIED = frozenset((408, 429, 500, 502, 503, 504))


@dataclass(frozen=True, slots=True)
class RetryOptions:
    """Attempts without progress before a range is given up, and the pauses between them."""

    max_attempts: int = 5
    first_pause_s: float = 0.1  # doubled with every attempt
    timeout_s: float = 30.0  # until the next byte


@dataclass(frozen=True, slots=True)
class _Progress:
    done_bytes: int
    object_bytes: int


@dataclass(frozen=True, slots=True)
class _Validator:
    """The fields of an answer that change when the object's bytes do."""

    tag: str
    modified: str
    size_bytes: int


class RemoteStorage(Protocol):
    """Named objects under one prefix."""

    def object_bytes(self, name: str) -> int:
        """Return an object's length. Raises RemoteError if there is none or the service fails."""
        ...

    def read_into(self, name: str, offset_bytes: int, target: memoryview) -> None:
        """Fill `target` from that offset. Called by many threads. Raises RemoteError."""
        ...

    def version(self, name: str) -> str | None:
        """Return a string that changes when the object's bytes do; None if the service has none.

        Known after a first read of the object.
        """
        ...


class HttpStorage:
    """Objects behind URLs, read by ranges over kept connections. Proxies are not used.

    After its context, every read raises ClosedError.
    """

    def __init__(self, place: str, url_of: Callable[[str], str], retry: RetryOptions) -> None:
        """`place` identifies the storage; `url_of` returns an object's URL, which may vary."""
        self._place = place
        self._url_of = url_of
        self._retry = retry
        self._lock = threading.Lock()
        self._validators: dict[str, _Validator] = {}
        self._idle: dict[tuple[str, str], list[HttpConnection]] = {}
        self._lifetime = Lifetime("the remote storage")

    def __enter__(self) -> "HttpStorage":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wait for running reads, refuse further ones, and close the kept connections."""
        self._lifetime.close()
        self._close_idle()

    def object_bytes(self, name: str) -> int:
        return self._ranged(name, 0, memoryview(bytearray(1)))

    def read_into(self, name: str, offset_bytes: int, target: memoryview) -> None:
        self._ranged(name, offset_bytes, target)

    def version(self, name: str) -> str | None:
        with self._lock:
            known = self._validators.get(name)
        if known is None or not (known.tag or known.modified):
            return None
        return f"{self._place}/{name} {known}"

    def _ranged(self, name: str, offset_bytes: int, target: memoryview) -> int:
        """Fill `target`, with retries; return the object's whole length."""
        with self._lifetime.use():
            return self._with_retries(name, offset_bytes, target)

    def _with_retries(self, name: str, offset_bytes: int, target: memoryview) -> int:
        done = attempt = total = 0
        while done < len(target):
            try:
                for progress in self._request(name, offset_bytes, target, done):
                    done, total = progress.done_bytes, progress.object_bytes
                    attempt = 0
            except (HttpError, OSError) as error:
                attempt += 1
                if attempt >= self._retry.max_attempts:
                    at = offset_bytes + done
                    raise RemoteError(
                        f"{name}: gave up at byte {at} after {attempt} attempts: {error}"
                    ) from error
                time.sleep(self._retry.first_pause_s * 2 ** (attempt - 1))
        return total

    def _request(
        self, name: str, offset_bytes: int, target: memoryview, done: int
    ) -> Iterator[_Progress]:
        """Make one request for the missing bytes and yield its progress."""
        begin, end = offset_bytes + done, offset_bytes + len(target) - 1
        url = self._url_of(name)
        for _ in range(_MAX_REDIRECTS):
            parts = urlsplit(url)
            with self._connected(parts) as connection:
                head = connection.get(_request_target(parts), begin, end)
                if head.status in _REDIRECTS:
                    url = urljoin(url, head.headers.get("location", ""))
                    connection.close()  # cheaper than reading the body
                    continue
                total = self._checked(name, head, begin, end)
                while done < len(target):
                    got = connection.receive_into(target[done:])
                    if got == 0:
                        raise HttpError(f"the answer ended {len(target) - done} bytes early")
                    done += got
                    yield _Progress(done, total)
                return
        raise RemoteError(f"{name}: the server sent more than {_MAX_REDIRECTS} redirections")

    @contextmanager
    def _connected(self, parts: SplitResult) -> Iterator[HttpConnection]:
        """Connect to the URL's host; the connection is kept afterwards unless an error occurs."""
        key = (parts.scheme, parts.netloc)
        with self._lock:
            idle = self._idle.setdefault(key, [])
            connection = idle.pop() if idle else None
        if connection is None:
            connection = HttpConnection(parts, self._retry.timeout_s)
        try:
            yield connection
        except BaseException:
            # Other kept connections are as old: the server may have closed them as well.
            connection.close()
            self._close_idle()
            raise
        with self._lock:
            if connection.reusable:
                self._idle.setdefault(key, []).append(connection)
            else:
                connection.close()

    def _close_idle(self) -> None:
        with self._lock:
            idle = [connection for kept in self._idle.values() for connection in kept]
            self._idle.clear()
        for connection in idle:
            connection.close()

    def _checked(self, name: str, head: Head, begin: int, end: int) -> int:
        headers = head.headers
        if head.status in _RETRIED:
            raise HttpError(f"status {head.status}")
        if head.status != 206:
            message = f"{name}: the server answered with status {head.status}, a range needs 206"
            raise RemoteStatusError(message, head.status)
        match = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
        length = headers.get("content-length", "")
        if match is None or (int(match[1]), int(match[2])) != (begin, end):
            raise RemoteError(f"{name}: the server sent another range than the bytes {begin}-{end}")
        if length != str(end + 1 - begin) or headers.get("content-encoding"):
            raise RemoteError(
                f"{name}: the server sent encoded bytes or another number than {end + 1 - begin}"
            )
        modified = headers.get("last-modified", "")
        validator = _Validator(headers.get("etag", ""), modified, int(match[3]))
        with self._lock:
            known = self._validators.setdefault(name, validator)
        if known != validator:
            raise RemoteError(f"{name} changed while it was read: load it again")
        return int(match[3])


def _request_target(parts: SplitResult) -> str:
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def remote_storage(url: str, retry: RetryOptions | None = None, client: Any = None) -> HttpStorage:
    """Return the storage at `http://`, `https://` or `s3://bucket/prefix`.

    `client` is a boto3 S3 client to sign with; None: the default one. Raises UsageError for another
    URL.
    """
    options = retry or RetryOptions()
    parts = urlsplit(url)
    if parts.scheme in ("http", "https"):
        base = url.rstrip("/")
        return HttpStorage(base, lambda name: f"{base}/{quote(name)}", options)
    if parts.scheme == "s3" and parts.netloc:
        return HttpStorage(url, _signer(parts.netloc, parts.path, client), options)
    raise UsageError(f"remote storage must be http://, https:// or s3://bucket/prefix, got {url!r}")


def _signer(bucket: str, prefix: str, client: Any) -> Callable[[str], str]:
    if client is None:
        client = import_module("boto3").client("s3")
    key = prefix.strip("/")

    def sign(name: str) -> str:
        parameters = {"Bucket": bucket, "Key": f"{key}/{name}" if key else name}
        try:
            return str(client.generate_presigned_url("get_object", Params=parameters))
        except import_module("botocore.exceptions").BotoCoreError as error:
            raise RemoteError(f"cannot sign a URL of s3://{bucket}: {error}") from error

    return sign
