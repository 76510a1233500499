"""One HTTP/1.1 connection for ranges: a request, its head, then bytes straight into place.

The kernel fills a whole stretch of the destination in one call, without waking the interpreter for
every packet; that halves the CPU of a client that hands out bytes. Bodies have a Content-Length.
"""

import re
import socket
import ssl
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from urllib.parse import SplitResult

from sllmreal.loader.errors import RemoteError

_MAX_HEAD_BYTES = 64 << 10
_MAX_CALL_BYTES = 4 << 20  # one system call; progress is known after each
_TARGET = re.compile(r"/[!-~]*")  # a space or line end would begin something else
_TIMEVAL = struct.Struct("@ll")


class HttpError(Exception):
    """The other end does not speak HTTP as it should, or stopped speaking: worth another try."""


@dataclass(frozen=True, slots=True)
class Head:
    """An answer's status and headers, names in lower case."""

    status: int
    headers: Mapping[str, str]


class HttpConnection:
    """A connection to one host. After any error it is of no more use."""

    def __init__(self, parts: SplitResult, timeout_s: float) -> None:
        """Connect. Raises RemoteError for an address that cannot be one, OSError, HttpError."""
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise RemoteError(f"cannot connect to {parts.scheme}://{parts.netloc}")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        self._host = parts.netloc.rpartition("@")[2]
        self._socket = socket.create_connection((parts.hostname, port), timeout_s)
        self._whole = parts.scheme == "http"
        try:
            if self._whole:
                # The kernel keeps the time, so that a call may wait for a whole stretch.
                self._socket.settimeout(None)
                wait = _TIMEVAL.pack(int(timeout_s), int(timeout_s % 1 * 1e6))
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, wait)
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, wait)
            else:
                context = ssl.create_default_context()
                self._socket = context.wrap_socket(self._socket, server_hostname=parts.hostname)
        except BaseException:
            self._socket.close()
            raise
        self._early = memoryview(b"")
        self.reusable = True  # the server keeps it open after what was asked last

    def __enter__(self) -> "HttpConnection":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self.reusable = False
        self._socket.close()

    def get(self, target: str, begin: int, end: int) -> Head:
        """Ask for bytes `begin` to `end`, both included, and read the answer's head."""
        if not _TARGET.fullmatch(target):
            raise RemoteError(f"no address to ask for: {target[:200]!r}")
        request = (
            f"GET {target} HTTP/1.1\r\nHost: {self._host}\r\nRange: bytes={begin}-{end}\r\n"
            "Accept-Encoding: identity\r\nUser-Agent: sllm\r\n\r\n"
        )
        self._socket.sendall(request.encode("ascii"))
        received = bytearray()
        while (at := received.find(b"\r\n\r\n")) < 0:
            part = self._socket.recv(_MAX_HEAD_BYTES)
            if not part or len(received) > _MAX_HEAD_BYTES:
                raise HttpError("the connection ended before the answer's head did")
            received += part
        self._early = memoryview(bytes(received[at + 4 :]))
        head = _parsed(bytes(received[:at]))
        self.reusable = head.headers.get("connection", "").lower() != "close"
        return head

    def receive_into(self, target: memoryview) -> int:
        """Fill a beginning of `target` with the body's next bytes; how many. 0: it has ended."""
        if self._early:
            size_bytes = min(len(self._early), len(target))
            target[:size_bytes] = self._early[:size_bytes]
            self._early = self._early[size_bytes:]
            return size_bytes
        stretch = target[:_MAX_CALL_BYTES]
        flags = socket.MSG_WAITALL if self._whole else 0
        return self._socket.recv_into(stretch, len(stretch), flags)


def _parsed(raw: bytes) -> Head:
    lines = raw.decode("latin-1").split("\r\n")
    version, _, rest = lines[0].partition(" ")
    status = rest[:3]
    if version != "HTTP/1.1" or not status.isdigit():
        raise HttpError(f"the answer begins with {lines[0][:80]!r}")
    headers = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon:
            raise HttpError(f"a header without a colon: {line[:80]!r}")
        headers[name.strip().lower()] = value.strip()
    return Head(int(status), headers)
