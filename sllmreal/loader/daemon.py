"""The pool's daemon: one per server, owns the DRAM tier, loads and evicts on command.

    python -m sllmreal.loader.daemon --socket /run/sllm.sock --root /models --pool-bytes 68719476736

Engine processes map its memory. A lease ends when its client releases it or its connection closes,
so a crashed engine holds nothing. The socket is for this user only; paths stay under the root.
"""

import argparse
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

from sllmcore.errors import SllmError, UsageError
from sllmreal.checkpoint.layout import Layout
from sllmreal.checkpoint.source import opened_checkpoint
from sllmreal.loader import wire
from sllmreal.loader.destination import PoolMemory
from sllmreal.loader.errors import DaemonError
from sllmreal.loader.fill import Fill, filling
from sllmreal.loader.plan import DEFAULT_CHUNK_BYTES, ByteRange, ChunkKey
from sllmreal.loader.pool import ChunkPool
from sllmreal.loader.reading import opened_reader
from sllmreal.loader.resident import resident_check
from sllmreal.loader.transfer import DEFAULT_OPTIONS, LoadOptions, transfer

VERSION = 1
_MODEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")
_MAX_LEASES = 1024  # of one connection


class PoolDaemon:
    """Serves a pool on a Unix socket until stopped. Commands of a connection run in order."""

    def __init__(
        self, pool: ChunkPool, root: Path, path: Path, options: LoadOptions = DEFAULT_OPTIONS
    ) -> None:
        self._pool = pool
        self._root = Path(root).resolve()
        self._options = options
        self._models: dict[str, str] = {}
        self._path = Path(path)
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = _listening(self._path)

    def serve(self) -> None:
        """Accept clients until `stop`; on return all connections are closed."""
        try:
            while True:
                try:
                    connection, _ = self._listener.accept()
                except OSError:
                    return
                with self._lock:
                    self._connections.add(connection)
                thread = threading.Thread(target=self._serve_one, args=(connection,), daemon=True)
                self._threads = [one for one in self._threads if one.is_alive()] + [thread]
                thread.start()
        finally:
            self._close()

    def stop(self) -> None:
        """Make `serve` return. May be called from a signal handler or another thread."""
        self._listener.shutdown(socket.SHUT_RDWR)

    def _close(self) -> None:
        self._listener.close()
        self._path.unlink(missing_ok=True)
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _serve_one(self, connection: socket.socket) -> None:
        with connection, ExitStack() as leases:
            session = _Session(connection, leases)
            try:
                hello = wire.receive(connection, wire.Hello)
                if hello.version != VERSION:
                    raise DaemonError(f"version {VERSION} is spoken here, not {hello.version}")
                status = self._pool.status()
                welcome = wire.Welcome(status.chunk_bytes, status.num_chunks)
                wire.send(connection, welcome, self._pool.fd)
                while True:
                    self._answer(wire.receive(connection, wire.Command), session)  # type: ignore[arg-type]
            except DaemonError:
                pass  # the client left, or does not speak our language: its leases end here
            finally:
                with self._lock:
                    self._connections.discard(connection)

    def _answer(self, command: wire.Command, session: "_Session") -> None:
        try:
            match command:
                case wire.Load():
                    answer: wire.Answer = self._load(command, session)
                case wire.Release(lease):
                    session.release(lease)
                    answer = wire.Done()
                case wire.Evict(identity, num_bytes):
                    answer = wire.Done(self._pool.evict(identity, num_bytes))
                case wire.Status():
                    answer = self._report()
        except DaemonError:
            raise
        except SllmError as error:
            answer = wire.Failed(type(error).__name__, str(error)[:1000])
        wire.send(session.connection, answer)

    def _report(self) -> wire.Report:
        status = self._pool.status()
        return wire.Report(
            status.chunk_bytes,
            status.num_chunks,
            status.num_free,
            status.huge_pages,
            dict(status.resident_bytes),
            {key: model for key, model in self._models.items() if key in status.resident_bytes},
        )

    def _load(self, command: wire.Load, session: "_Session") -> wire.Answer:
        if not _MODEL.fullmatch(command.model) or len(session.leases) >= _MAX_LEASES:
            raise UsageError(f"no model of the name {command.model[:100]!r}, or too many leases")
        with (
            opened_checkpoint(self._root / command.model) as opened,
            opened_reader(opened) as reader,
        ):
            layout = opened.layout
            self._models[layout.identity] = command.model
            lease = session.lease(self._pool, layout.identity)
            try:
                ranges = _ranges(command, layout)
                check = resident_check(self._pool, self._options)
                with filling(
                    self._pool, layout, ranges, to_device=False, keep_landed=True, check=check
                ) as fill:
                    landed = _announce(fill, lease, session.connection)
                    memory = PoolMemory(fill.plan, self._pool, fill.chunks)
                    transfer(fill, reader, memory, landed, self._options)
                return wire.Done(fill.plan.size_bytes)
            except BaseException:
                session.release(lease)
                raise


class _Session:
    """A client's connection and its leases: pins that end with it at the latest."""

    def __init__(self, connection: socket.socket, stack: ExitStack) -> None:
        self.connection = connection
        self.leases: dict[int, ExitStack] = {}
        self._stack = stack
        self._next = 0

    def lease(self, pool: ChunkPool, identity: str) -> int:
        self._next += 1
        pin = self._stack.enter_context(ExitStack())
        pin.enter_context(pool.pinned(identity))
        self.leases[self._next] = pin
        return self._next

    def release(self, lease: int) -> None:
        pin = self.leases.pop(lease, None)
        if pin is None:
            raise UsageError(f"no lease {lease} on this connection")
        pin.close()


class _Announcer:
    """Tells a client which places have landed, a message for each."""

    def __init__(self, fill: Fill, numbers: dict[ChunkKey, int], connection: socket.socket) -> None:
        self._fill = fill
        self._numbers = numbers
        self._connection = connection

    def __call__(self, position: int) -> None:
        key = self._fill.plan.reads[position].key
        self._fill.landed.add(key)
        wire.send(self._connection, wire.Landed((self._numbers[key],)))


def _announce(fill: Fill, lease: int, connection: socket.socket) -> _Announcer:
    """Tell the client where its chunks are, and return what tells it of each that lands."""
    keys = list(fill.chunks)
    places = tuple(wire.Place(key.partition, key.number, fill.chunks[key]) for key in keys)
    reading = {read.key for read in fill.plan.reads}
    resident = tuple(number for number, key in enumerate(keys) if key not in reading)
    assigned = wire.Assigned(lease, fill.plan.layout.identity, places, resident)
    wire.send(connection, assigned)
    return _Announcer(fill, {key: number for number, key in enumerate(keys)}, connection)


def _ranges(command: wire.Load, layout: Layout) -> list[list[ByteRange]] | None:
    """The ranges asked for, checked: one list as if for a single tensor, None for all."""
    if command.ranges is None:
        return None
    ranges = []
    for one in command.ranges:
        inside = 0 <= one.partition < len(layout.partitions)
        if not inside or not (
            0 <= one.begin_bytes <= one.end_bytes <= layout.partitions[one.partition].size_bytes
        ):
            raise UsageError(f"range {one} lies outside the checkpoint")
        ranges.append(ByteRange(one.partition, one.begin_bytes, one.end_bytes))
    return [ranges, *([] for _ in layout.tensors)][: len(layout.tensors)]


def _listening(path: Path) -> socket.socket:
    """A listening socket that only this user may connect to."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        # Made private before it listens: there is no moment at which others could connect.
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(64)
    except OSError as error:
        listener.close()
        raise DaemonError(f"cannot listen on {path}: {error}") from error
    return listener


@contextmanager
def running_daemon(
    pool: ChunkPool, root: Path, path: Path, options: LoadOptions = DEFAULT_OPTIONS
) -> Iterator[PoolDaemon]:
    """A daemon in a thread of this process, stopped at the end."""
    daemon = PoolDaemon(pool, root, path, options)
    thread = threading.Thread(target=daemon.serve, name="pool-daemon", daemon=True)
    thread.start()
    try:
        yield daemon
    finally:
        daemon.stop()
        thread.join()


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--root", type=Path, required=True, help="checkpoints lie under it")
    parser.add_argument("--pool-bytes", type=int, required=True)
    parser.add_argument("--chunk-bytes", type=int, default=DEFAULT_CHUNK_BYTES)
    parser.add_argument("--verify-resident", action="store_true", help="hash hits as well")
    arguments = parser.parse_args(argv)
    try:
        with ChunkPool(arguments.pool_bytes, arguments.chunk_bytes) as pool:
            options = LoadOptions(verify_resident=arguments.verify_resident)
            daemon = PoolDaemon(pool, arguments.root, arguments.socket, options)

            def stop(number: int, frame: FrameType | None) -> None:
                daemon.stop()

            signal.signal(signal.SIGTERM, stop)
            signal.signal(signal.SIGINT, stop)
            daemon.serve()
    except SllmError as error:
        sys.stderr.write(f"{error}\n")
        return 2 if isinstance(error, UsageError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
