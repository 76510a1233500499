"""Remote storage as ranges of named objects: HTTP servers, and S3-compatible stores by signed URLs.

A range that breaks off is continued where it stopped; an object that changed meanwhile is an error.
`urllib3` does the HTTP, `boto3` the signing; both are imported only when asked for.
"""

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

from sllmcore.errors import UsageError
from sllmreal.loader.errors import RemoteError

_READ_BYTES = 1 << 20
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
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
    """Objects behind URLs, read by ranges over connections that are kept."""

    def __init__(
        self, url_of: Callable[[str], str], max_connections: int, retry: RetryOptions
    ) -> None:
        urllib3 = import_module("urllib3")
        self._url_of = url_of
        self._broken: type[Exception] = urllib3.exceptions.HTTPError
        self._retry = retry
        self._validators: dict[str, str] = {}
        timeout = urllib3.Timeout(total=None, connect=retry.timeout_s, read=retry.timeout_s)
        self._http = urllib3.PoolManager(
            maxsize=max_connections,
            block=False,
            timeout=timeout,
            retries=urllib3.Retry(0, redirect=5),
        )

    def object_bytes(self, name: str) -> int:
        target = memoryview(bytearray(1))
        return self._ranged(name, 0, target)

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
            except (self._broken, _RetryError) as error:
                attempt += 1
                if attempt >= self._retry.max_attempts:
                    raise RemoteError(
                        f"{name}: given up at byte {offset_bytes + done}: {error}"
                    ) from error
                time.sleep(self._retry.first_pause_s * 2 ** (attempt - 1))
        return total

    def _request(
        self, name: str, offset_bytes: int, target: memoryview, done: int
    ) -> Iterator[_Progress]:
        """One request for what is missing, yielding how far it has come."""
        begin, end = offset_bytes + done, offset_bytes + len(target) - 1
        headers = {"Range": f"bytes={begin}-{end}", "Accept-Encoding": "identity"}
        response = self._http.request(
            "GET", self._url_of(name), headers=headers, preload_content=False
        )
        try:
            total = self._checked(name, response, begin, end)
            for part in response.stream(_READ_BYTES, decode_content=False):
                if done + len(part) > len(target):
                    raise RemoteError(f"{name}: the server sent more than was asked for")
                target[done : done + len(part)] = part
                done += len(part)
                yield _Progress(done, total)
            if done < len(target):
                raise _RetryError(f"the answer ended {len(target) - done} bytes early")
            response.release_conn()
        finally:
            if done < len(target):
                response.close()

    def _checked(self, name: str, response: Any, begin: int, end: int) -> int:
        if response.status in _RETRIED:
            raise _RetryError(f"status {response.status}")
        if response.status != 206:
            raise RemoteError(f"{name}: status {response.status}, a range needs 206")
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if match is None or (int(match[1]), int(match[2])) != (begin, end):
            raise RemoteError(f"{name}: asked for bytes {begin}-{end}, got another range")
        headers = response.headers
        validator = f"{headers.get('ETag', '')} {headers.get('Last-Modified', '')} {match[3]}"
        if self._validators.setdefault(name, validator) != validator:
            raise RemoteError(f"{name} changed while it was read")
        return int(match[3])


class _RetryError(Exception):
    """This attempt failed; the next may not."""


def remote_storage(
    url: str, max_connections: int = 8, retry: RetryOptions | None = None, client: Any = None
) -> HttpStorage:
    """The storage at `http://`, `https://` or `s3://bucket/prefix`.

    `client` is a boto3 S3 client to sign with, for endpoints and credentials of one's own.
    """
    options = retry or RetryOptions()
    parts = urlsplit(url)
    if parts.scheme in ("http", "https"):
        base = url.rstrip("/")
        return HttpStorage(lambda name: f"{base}/{quote(name)}", max_connections, options)
    if parts.scheme == "s3" and parts.netloc:
        return HttpStorage(_signer(parts.netloc, parts.path, client), max_connections, options)
    raise UsageError(f"remote storage is http://, https:// or s3://bucket/prefix, got {url!r}")


def _signer(bucket: str, prefix: str, client: Any) -> Callable[[str], str]:
    if client is None:
        client = import_module("boto3").client("s3")
    key = prefix.strip("/")

    def sign(name: str) -> str:
        parameters = {"Bucket": bucket, "Key": f"{key}/{name}" if key else name}
        return str(client.generate_presigned_url("get_object", Params=parameters))

    return sign
