"""An HTTP/1.1 connection for ranges: request, head, then the body straight into place.

The kernel fills a large part of the destination per call, without waking the interpreter for every
packet; that halves the CPU time of receiving. Bodies must have a Content-Length.
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
_MAX_CALL_BYTES = 4 << 20  # per system call; progress is reported after each
_TARGET = re.compile(r"/[!-~]*")  # a space or line end would end the request line
_TIMEVAL = struct.Struct("@ll")


class HttpError(Exception):
    """The server broke the protocol or closed the connection: the request may be retried."""


@dataclass(frozen=True, slots=True)
class Head:
    """The status and headers of an answer; names are in lower case."""

    status: int
    headers: Mapping[str, str]


class HttpConnection:
    """A connection to one host. After an error it cannot be used again."""

    def __init__(self, parts: SplitResult, timeout_s: float) -> None:
        """Connect. Raises RemoteError for an invalid address, OSError if the connection fails."""
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise RemoteError(f"cannot connect to {parts.scheme}://{parts.netloc}")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        self._host = parts.netloc.rpartition("@")[2]
        self._socket = socket.create_connection((parts.hostname, port), timeout_s)
        self._whole = parts.scheme == "http"
        try:
            if self._whole:
                # The kernel applies the timeout, so that one call may wait for many packets.
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
        self.reusable = True  # the server keeps the connection open after the last answer

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
        """Request bytes `begin` to `end`, both included, and return the answer's head.

        Raises RemoteError for an invalid target, HttpError or OSError if the connection fails.
        """
        if not _TARGET.fullmatch(target):
            raise RemoteError(f"the path of a URL must be printable ASCII, got {target[:200]!r}")
        request = (
            f"GET {target} HTTP/1.1\r\nHost: {self._host}\r\nRange: bytes={begin}-{end}\r\n"
            "Accept-Encoding: identity\r\nUser-Agent: sllm\r\n\r\n"
        )
        self._socket.sendall(request.encode("ascii"))
        received = bytearray()
        while (at := received.find(b"\r\n\r\n")) < 0:
            part = self._socket.recv(_MAX_HEAD_BYTES)
            if not part or len(received) > _MAX_HEAD_BYTES:
                raise HttpError("the connection was closed within the answer's head")
            received += part
        self._early = memoryview(bytes(received[at + 4 :]))
        head = _parsed(bytes(received[:at]))
        self.reusable = head.headers.get("connection", "").lower() != "close"
        return head

    def receive_into(self, target: memoryview) -> int:
        """Receive the next bytes of the body into `target`; return their number, 0 at the end."""
        if self._early:
            size_bytes = min(len(self._early), len(target))
            target[:size_bytes] = self._early[:size_bytes]
            self._early = self._early[size_bytes:]
            return size_bytes
        part = target[:_MAX_CALL_BYTES]
        flags = socket.MSG_WAITALL if self._whole else 0
        return self._socket.recv_into(part, len(part), flags)


def _parsed(raw: bytes) -> Head:
    lines = raw.decode("latin-1").split("\r\n")
    version, _, rest = lines[0].partition(" ")
    status = rest[:3]
    if version != "HTTP/1.1" or not status.isdigit():
        raise HttpError(f"the answer is not HTTP/1.1, it begins with {lines[0][:80]!r}")
    headers = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon:
            raise HttpError(f"the answer has a header without a colon: {line[:80]!r}")
        headers[name.strip().lower()] = value.strip()
    return Head(int(status), headers)
