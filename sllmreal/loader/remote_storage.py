"""Remote storage as ranges of named objects: HTTP servers, and S3-compatible stores by signed URLs.

A range that breaks off is continued where it stopped; an object that changed meanwhile is an error.
The standard library does the HTTP, reading into place; `boto3`, imported lazily, the signing.
"""

import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from importlib import import_module
from types import TracebackType
from typing import Any, Protocol
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from sllmcore.errors import UsageError
from sllmreal.loader.errors import RemoteError

_READ_BYTES = 1 << 20
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


class RemoteStorage(Protocol):
    """Objects under one prefix."""

    def object_bytes(self, name: str) -> int:
        """An object's length. Raises RemoteError where there is none, or no way to know."""
        ...

    def read_into(self, name: str, offset_bytes: int, target: memoryview) -> None:
        """Fill `target` from that offset. Called by many threads. Raises RemoteError."""
        ...


class HttpStorage:
    """Objects behind URLs, read by ranges over connections that are kept. Proxies are not used."""

    def __init__(self, url_of: Callable[[str], str], retry: RetryOptions) -> None:
        self._url_of = url_of
        self._retry = retry
        self._lock = threading.Lock()
        self._validators: dict[str, str] = {}
        self._idle: dict[tuple[str, str], list[HTTPConnection]] = {}

    def __enter__(self) -> "HttpStorage":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connections that are kept."""
        with self._lock:
            idle = [connection for kept in self._idle.values() for connection in kept]
            self._idle.clear()
        for connection in idle:
            connection.close()

    def object_bytes(self, name: str) -> int:
        return self._ranged(name, 0, memoryview(bytearray(1)))

    def read_into(self, name: str, offset_bytes: int, target: memoryview) -> None:
        self._ranged(name, offset_bytes, target)

    def _ranged(self, name: str, offset_bytes: int, target: memoryview) -> int:
        """Fill `target`, in as many requests as it takes; returns the object's whole length."""
        done = attempt = total = 0
        while done < len(target):
            try:
                for progress in self._request(name, offset_bytes, target, done):
                    done, total = progress.done_bytes, progress.object_bytes
                    attempt = 0
            except (HTTPException, OSError, _RetryError) as error:
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
            with self._connected(urlsplit(url)) as connection:
                response = _asked(connection, urlsplit(url), begin, end)
                if response.status in _REDIRECTS:
                    url = urljoin(url, response.headers.get("Location", ""))
                    connection.close()
                    continue
                total = self._checked(name, response, begin, end)
                while done < len(target):
                    # Straight into place: half the CPU of a client that hands out bytes.
                    got = response.readinto(target[done : done + _READ_BYTES])
                    if got == 0:
                        raise _RetryError(f"the answer ended {len(target) - done} bytes early")
                    done += got
                    yield _Progress(done, total)
                response.read()  # the end of the answer: the connection is free for the next
                return
        raise RemoteError(f"{name}: more than {_MAX_REDIRECTS} redirections")

    @contextmanager
    def _connected(self, parts: SplitResult) -> Iterator[HTTPConnection]:
        """A connection to the URL's host, kept afterwards unless something went wrong."""
        key = (parts.scheme, parts.netloc)
        with self._lock:
            idle = self._idle.setdefault(key, [])
            connection = idle.pop() if idle else None
        if connection is None:
            connection = _new_connection(parts, self._retry.timeout_s)
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        with self._lock:
            self._idle.setdefault(key, []).append(connection)

    def _checked(self, name: str, response: HTTPResponse, begin: int, end: int) -> int:
        if response.status in _RETRIED:
            raise _RetryError(f"status {response.status}")
        if response.status != 206:
            raise RemoteError(f"{name}: status {response.status}, a range needs 206")
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        length = response.headers.get("Content-Length", "")
        if match is None or (int(match[1]), int(match[2])) != (begin, end):
            raise RemoteError(f"{name}: asked for bytes {begin}-{end}, got another range")
        if length != str(end + 1 - begin) or response.headers.get("Content-Encoding"):
            raise RemoteError(f"{name}: the answer is not the {end + 1 - begin} bytes themselves")
        headers = response.headers
        validator = f"{headers.get('ETag', '')} {headers.get('Last-Modified', '')} {match[3]}"
        with self._lock:
            known = self._validators.setdefault(name, validator)
        if known != validator:
            raise RemoteError(f"{name} changed while it was read")
        return int(match[3])


def _new_connection(parts: SplitResult, timeout_s: float) -> HTTPConnection:
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise RemoteError(f"cannot connect to {parts.scheme}://{parts.netloc}")
    if parts.scheme == "https":
        context = ssl.create_default_context()
        return HTTPSConnection(parts.hostname, parts.port, timeout=timeout_s, context=context)
    return HTTPConnection(parts.hostname, parts.port, timeout=timeout_s)


def _asked(connection: HTTPConnection, parts: SplitResult, begin: int, end: int) -> HTTPResponse:
    path = parts.path or "/"
    target = f"{path}?{parts.query}" if parts.query else path
    headers = {"Range": f"bytes={begin}-{end}", "Accept-Encoding": "identity"}
    connection.request("GET", target, headers=headers)
    return connection.getresponse()


class _RetryError(Exception):
    """This attempt failed; the next may not."""


def remote_storage(url: str, retry: RetryOptions | None = None, client: Any = None) -> HttpStorage:
    """The storage at `http://`, `https://` or `s3://bucket/prefix`.

    `client` is a boto3 S3 client to sign with, for endpoints and credentials of one's own.
    """
    options = retry or RetryOptions()
    parts = urlsplit(url)
    if parts.scheme in ("http", "https"):
        base = url.rstrip("/")
        return HttpStorage(lambda name: f"{base}/{quote(name)}", options)
    if parts.scheme == "s3" and parts.netloc:
        return HttpStorage(_signer(parts.netloc, parts.path, client), options)
    raise UsageError(f"remote storage is http://, https:// or s3://bucket/prefix, got {url!r}")


def _signer(bucket: str, prefix: str, client: Any) -> Callable[[str], str]:
    if client is None:
        client = import_module("boto3").client("s3")
    key = prefix.strip("/")

    def sign(name: str) -> str:
        parameters = {"Bucket": bucket, "Key": f"{key}/{name}" if key else name}
        return str(client.generate_presigned_url("get_object", Params=parameters))

    return sign
