"""Remote storage as ranges of named objects: HTTP servers, and S3-compatible stores by signed URLs.

A range that breaks off is continued where it stopped; an object that changed meanwhile is an error.
The standard library does the HTTP, reading into place; `boto3`, imported lazily, the signing.
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
from sllmreal.loader.errors import RemoteError, RemoteStatusError
from sllmreal.loader.http_connection import Head, HttpConnection, HttpError

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_MAX_REDIRECTS = 5
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_RETRIED = frozenset((408, 429, 500, 502, 503, 504))


@dataclass(frozen=True, slots=True)
class RetryOptions:
    """Attempts without any progress before a range is given up, and the pauses between them."""

    max_attempts: int = 5
    first_pause_s: float = 0.1  # doubled with every attempt
    timeout_s: float = 30.0  # without a byte


@dataclass(frozen=True, slots=True)
class _Progress:
    done_bytes: int
    object_bytes: int


@dataclass(frozen=True, slots=True)
class _Validator:
    """What a service says of an object that changes when its bytes do."""

    tag: str
    modified: str
    size_bytes: int


class RemoteStorage(Protocol):
    """Objects under one prefix."""

    def object_bytes(self, name: str) -> int:
        """An object's length. Raises RemoteError where there is none, or no way to know."""
        ...

    def read_into(self, name: str, offset_bytes: int, target: memoryview) -> None:
        """Fill `target` from that offset. Called by many threads. Raises RemoteError."""
        ...

    def version(self, name: str) -> str | None:
        """Another one when the object's bytes are; None if the service does not say.

        Known once something of the object was read.
        """
        ...


class HttpStorage:
    """Objects behind URLs, read by ranges over connections that are kept. Proxies are not used."""

    def __init__(self, place: str, url_of: Callable[[str], str], retry: RetryOptions) -> None:
        """`place` names the storage; `url_of` gives an object's URL, which may change each time."""
        self._place = place
        self._url_of = url_of
        self._retry = retry
        self._lock = threading.Lock()
        self._validators: dict[str, _Validator] = {}
        self._idle: dict[tuple[str, str], list[HttpConnection]] = {}

    def __enter__(self) -> "HttpStorage":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connections that are kept."""
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
        """Fill `target`, in as many requests as it takes; returns the object's whole length."""
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
                    raise RemoteError(f"{name}: given up at byte {at}: {error}") from error
                time.sleep(self._retry.first_pause_s * 2 ** (attempt - 1))
        return total

    def _request(
        self, name: str, offset_bytes: int, target: memoryview, done: int
    ) -> Iterator[_Progress]:
        """One request for what is missing, yielding how far it has come."""
        begin, end = offset_bytes + done, offset_bytes + len(target) - 1
        url = self._url_of(name)
        for _ in range(_MAX_REDIRECTS):
            parts = urlsplit(url)
            with self._connected(parts) as connection:
                head = connection.get(_request_target(parts), begin, end)
                if head.status in _REDIRECTS:
                    url = urljoin(url, head.headers.get("location", ""))
                    connection.close()  # its body is not worth reading
                    continue
                total = self._checked(name, head, begin, end)
                while done < len(target):
                    got = connection.receive_into(target[done:])
                    if got == 0:
                        raise HttpError(f"the answer ended {len(target) - done} bytes early")
                    done += got
                    yield _Progress(done, total)
                return
        raise RemoteError(f"{name}: more than {_MAX_REDIRECTS} redirections")

    @contextmanager
    def _connected(self, parts: SplitResult) -> Iterator[HttpConnection]:
        """A connection to the URL's host, kept afterwards unless something went wrong."""
        key = (parts.scheme, parts.netloc)
        with self._lock:
            idle = self._idle.setdefault(key, [])
            connection = idle.pop() if idle else None
        if connection is None:
            connection = HttpConnection(parts, self._retry.timeout_s)
        try:
            yield connection
        except BaseException:
            # Those kept beside it have waited as long: the server may have closed them as well.
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
            message = f"{name}: status {head.status}, a range needs 206"
            raise RemoteStatusError(message, head.status)
        match = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
        length = headers.get("content-length", "")
        if match is None or (int(match[1]), int(match[2])) != (begin, end):
            raise RemoteError(f"{name}: asked for bytes {begin}-{end}, got another range")
        if length != str(end + 1 - begin) or headers.get("content-encoding"):
            raise RemoteError(f"{name}: the answer is not the {end + 1 - begin} bytes themselves")
        modified = headers.get("last-modified", "")
        validator = _Validator(headers.get("etag", ""), modified, int(match[3]))
        with self._lock:
            known = self._validators.setdefault(name, validator)
        if known != validator:
            raise RemoteError(f"{name} changed while it was read")
        return int(match[3])


def _request_target(parts: SplitResult) -> str:
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def remote_storage(url: str, retry: RetryOptions | None = None, client: Any = None) -> HttpStorage:
    """The storage at `http://`, `https://` or `s3://bucket/prefix`.

    `client` is a boto3 S3 client to sign with, for endpoints and credentials of one's own.
    """
    options = retry or RetryOptions()
    parts = urlsplit(url)
    if parts.scheme in ("http", "https"):
        base = url.rstrip("/")
        return HttpStorage(base, lambda name: f"{base}/{quote(name)}", options)
    if parts.scheme == "s3" and parts.netloc:
        return HttpStorage(url, _signer(parts.netloc, parts.path, client), options)
    raise UsageError(f"remote storage is http://, https:// or s3://bucket/prefix, got {url!r}")


def _signer(bucket: str, prefix: str, client: Any) -> Callable[[str], str]:
    if client is None:
        client = import_module("boto3").client("s3")
    key = prefix.strip("/")

    def sign(name: str) -> str:
        parameters = {"Bucket": bucket, "Key": f"{key}/{name}" if key else name}
        try:
            return str(client.generate_presigned_url("get_object", Params=parameters))
        except import_module("botocore.exceptions").BotoCoreError as error:
            raise RemoteError(f"cannot sign for s3://{bucket}: {error}") from error

    return sign
