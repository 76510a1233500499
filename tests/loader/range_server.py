"""A small HTTP server of files by ranges on 127.0.0.1, with configurable faults."""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


@dataclass
class Behaviour:
    """The faults of the server. `spoil` changes an answer's bytes: (name, offset, bytes)."""

    root: Path
    drop_after_bytes: list[int] = field(default_factory=list)  # one dropped answer for each
    statuses: list[int] = field(default_factory=list)  # one such answer for each, first
    spoil: Callable[[str, int, bytes], bytes] = lambda name, offset, raw: raw
    refuse: Callable[[int], bool] = lambda offset: False  # ranges that begin there, with 403
    etag: str = '"1"'
    later_etag: tuple[int, str] | None = (
        None  # another tag for ranges that begin at or after an offset
    )
    requests: list[str] = field(default_factory=list)
    redirects: dict[str, str] = field(default_factory=dict)  # by prefix of the path
    sent_bytes: int = 0

    def etag_at(self, begin: int) -> str:
        """Return the tag for a range that begins there, whatever the order of the requests."""
        if self.later_etag is not None and begin >= self.later_etag[0]:
            return self.later_etag[1]
        return self.etag


@contextmanager
def serving(behaviour: Behaviour) -> Iterator[str]:
    """Run the server until the end; yield its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: object) -> None:
            return

        def do_GET(self) -> None:
            _answer(self, behaviour)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _answer(handler: BaseHTTPRequestHandler, behaviour: Behaviour) -> None:
    behaviour.requests.append(handler.path)
    if behaviour.statuses:
        _plain(handler, behaviour.statuses.pop(0))
        return
    for prefix, target in behaviour.redirects.items():
        if handler.path.startswith(prefix):
            handler.send_response(302)
            handler.send_header("Location", target + handler.path.removeprefix(prefix))
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
    name = handler.path.partition("?")[0].lstrip("/")
    file = behaviour.root / name
    wanted = _RANGE.fullmatch(handler.headers.get("Range", ""))
    if not file.is_file() or wanted is None:
        _plain(handler, 404)
        return
    content = file.read_bytes()
    begin, end = int(wanted[1]), int(wanted[2])
    if behaviour.refuse(begin):
        _plain(handler, 403)
        return
    part = behaviour.spoil(name, begin, content[begin : end + 1])
    handler.send_response(206)
    handler.send_header("Content-Length", str(end + 1 - begin))
    handler.send_header("Content-Range", f"bytes {begin}-{end}/{len(content)}")
    handler.send_header("ETag", behaviour.etag_at(begin))
    handler.end_headers()
    if behaviour.drop_after_bytes and len(part) > 1:
        part = part[: behaviour.drop_after_bytes.pop(0)]
        handler.close_connection = True
    handler.wfile.write(part)
    behaviour.sent_bytes += len(part)


def _plain(handler: BaseHTTPRequestHandler, status: int) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", "0")
    handler.end_headers()
