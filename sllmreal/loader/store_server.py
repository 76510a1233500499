"""The checkpoint store: a process that keeps checkpoints in a pool and shares it with others.

`sllm store serve` runs it. Clients map the pool's memory copy-on-write, through a descriptor that
cannot write to it. A lease protects a checkpoint from eviction. It ends with its connection, so the
leases of a killed client end too.
"""

import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from sllmcore.errors import SllmError, UsageError
from sllmreal.checkpoint.layout import Layout
from sllmreal.checkpoint.source import opened_checkpoint
from sllmreal.loader.destination import PoolMemory
from sllmreal.loader.errors import (
    CheckpointInUseError,
    CheckpointStoreError,
    PoolExhaustedError,
)
from sllmreal.loader.fill import Fill, filling
from sllmreal.loader.pipeline import Cancellation, either
from sllmreal.loader.plan import ByteRange
from sllmreal.loader.pool import ChunkPool
from sllmreal.loader.reading import ChunkReader, opened_reader
from sllmreal.loader.resident import resident_check
from sllmreal.loader.store_catalogue import StoreCatalogue, found_checkpoint
from sllmreal.loader.store_messages import (
    PROTOCOL_VERSION,
    CheckpointEvicted,
    CheckpointLoaded,
    ChunkPlace,
    CommandFailed,
    EvictCheckpoint,
    GetStoreStatus,
    LoadCheckpoint,
    LoadProgress,
    StoreAnswer,
    StoreCommand,
    StoredCheckpoint,
    StoreHello,
    StoreStatus,
    StoreWelcome,
    receive,
    send,
)
from sllmreal.loader.store_socket import listening_socket, peer_pid
from sllmreal.loader.transfer import DEFAULT_OPTIONS, LoadOptions, transfer

_PROGRESS_S = 0.1
_SEND_TIMEOUT_S = 10  # a client that reads nothing for so long is disconnected
_EVICT_WAIT_S = 0.5  # for the end of leases that clients have just closed


class StoreServer:
    """A server of `pool` on a listening socket, with a thread per connection."""

    def __init__(
        self, pool: ChunkPool, listener: socket.socket, options: LoadOptions = DEFAULT_OPTIONS
    ) -> None:
        self._pool = pool
        self._listener = listener
        self._options = options
        self._catalogue = StoreCatalogue()
        self._stopped = Cancellation()
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    def serve(self) -> None:
        """Serve clients until `stop`; on return, all loads and leases have ended."""
        # The clients' descriptor is read-only: no client can change the pool.
        with self._pool.in_use():
            client_fd = os.open(f"/proc/self/fd/{self._pool.fd}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            while not self._stopped.cancelled:
                try:
                    connection, _ = self._listener.accept()
                except OSError:
                    time.sleep(0.1)  # stopped, or out of descriptors until a client leaves
                    continue
                self._start(connection, client_fd)
        finally:
            self._disconnect_all()
            os.close(client_fd)

    def stop(self) -> None:
        """Make `serve` return. May be called from a signal handler or another thread."""
        self._stopped.cancel()
        with suppress(OSError):  # stopped before
            self._listener.shutdown(socket.SHUT_RDWR)

    def _start(self, connection: socket.socket, client_fd: int) -> None:
        with self._lock:
            self._connections.add(connection)
        thread = threading.Thread(
            target=self._converse, args=(connection, client_fd), name="store client", daemon=True
        )
        self._threads = [one for one in self._threads if one.is_alive()] + [thread]
        thread.start()

    def _disconnect_all(self) -> None:
        with self._lock:
            for connection in self._connections:
                with suppress(OSError):  # the client was first
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _converse(self, connection: socket.socket, client_fd: int) -> None:
        timeout = struct.pack("@ll", _SEND_TIMEOUT_S, 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeout)
        try:
            with ExitStack() as lease:
                _greet(connection, client_fd, self._pool.chunk_bytes)
                while True:
                    command: StoreCommand = receive(connection, StoreCommand)  # type: ignore[arg-type]
                    send(connection, self._answer(command, connection, lease))
        except CheckpointStoreError:
            pass  # the client has left, or does not follow the protocol
        finally:
            with self._lock:
                self._connections.discard(connection)
            connection.close()

    def _answer(
        self, command: StoreCommand, connection: socket.socket, lease: ExitStack
    ) -> StoreAnswer:
        try:
            match command:
                case LoadCheckpoint():
                    return self._load(command, connection, lease)
                case EvictCheckpoint(name):
                    return CheckpointEvicted(self._evict(name))
                case GetStoreStatus():
                    return self._status()
        except CheckpointStoreError:
            raise
        except SllmError as error:
            return CommandFailed(type(error).__name__, str(error)[:2000])

    def _status(self) -> StoreStatus:
        pool = self._pool.status()
        return StoreStatus(
            pid=os.getpid(),
            chunk_bytes=pool.chunk_bytes,
            num_chunks=pool.num_chunks,
            num_free=pool.num_free,
            huge_pages=pool.huge_pages,
            checkpoints=self._catalogue.checkpoints(pool.resident_bytes),
        )

    def _evict(self, name: str) -> int:
        until_s = time.monotonic() + _EVICT_WAIT_S
        while (
            checkpoint := found_checkpoint(self._status().checkpoints, name)
        ).used_by and time.monotonic() < until_s:
            time.sleep(0.01)
        if checkpoint.used_by:
            pids = ", ".join(str(pid) for pid in checkpoint.used_by)
            raise CheckpointInUseError(
                f"{checkpoint.name} is in use by process {pids}: end it, or drop its tensors"
            )
        return self._pool.evict(checkpoint.identity)

    def _load(
        self, command: LoadCheckpoint, connection: socket.socket, lease: ExitStack
    ) -> CheckpointLoaded:
        with (
            opened_checkpoint(Path(command.path)) as opened,
            opened_reader(opened) as reader,
            ExitStack() as use,
        ):
            layout = opened.layout
            entry = StoredCheckpoint(
                name=command.name,
                path=command.path,
                identity=layout.identity,
                size_bytes=layout.size_bytes,
                resident_bytes=0,
                used_by=(),
            )
            use.enter_context(self._pool.pinned(layout.identity))
            use.enter_context(self._catalogue.used(entry, peer_pid(connection)))
            fill = self._filled(command, layout, reader, connection)
            if command.leased:
                lease.enter_context(use.pop_all())
            return CheckpointLoaded(
                identity=layout.identity,
                size_bytes=layout.size_bytes,
                read_bytes=fill.plan.size_bytes,
                places=tuple(
                    ChunkPlace(key.partition, key.number, chunk)
                    for key, chunk in fill.chunks.items()
                ),
            )

    def _filled(
        self,
        command: LoadCheckpoint,
        layout: Layout,
        reader: ChunkReader,
        connection: socket.socket,
    ) -> Fill:
        """Load the missing chunks into the pool, sending progress."""
        ranges = _ranges(command, layout)
        check = resident_check(self._pool, self._options)
        try:
            with (
                either(self._stopped, self._pool.closing) as cancellation,
                filling(
                    self._pool, layout, ranges, to_device=False, keep_landed=True, check=check
                ) as fill,
            ):
                progress = _Progress(fill, connection)
                memory = PoolMemory(fill.plan, self._pool, fill.chunks)
                transfer(
                    fill=fill,
                    reader=reader,
                    destination=memory,
                    landed=progress.land,
                    options=self._options,
                    cancellation=cancellation,
                )
                return fill
        except PoolExhaustedError as error:
            evictable = [one.name for one in self._status().checkpoints if not one.used_by]
            remedy = f"evict one of: {', '.join(evictable)}" if evictable else "all are in use"
            raise PoolExhaustedError(f"{command.name}: {error}; {remedy}") from error


class _Progress:
    """The progress of a load, sent to its client."""

    def __init__(self, fill: Fill, connection: socket.socket) -> None:
        self._fill = fill
        self._connection = connection
        self._done_bytes = 0
        self._sent_at_s = 0.0

    def land(self, position: int) -> None:
        """Count a chunk. Raises CheckpointStoreError, which ends the load, if the client left."""
        read = self._fill.plan.reads[position]
        self._fill.landed.add(read.key)
        self._done_bytes += read.size_bytes
        now_s = time.monotonic()
        if now_s - self._sent_at_s >= _PROGRESS_S:
            self._sent_at_s = now_s
            send(self._connection, LoadProgress(self._done_bytes, self._fill.plan.size_bytes))


def _greet(connection: socket.socket, client_fd: int, chunk_bytes: int) -> None:
    hello = receive(connection, StoreHello)
    if hello.version != PROTOCOL_VERSION:
        reason = f"the store has protocol version {PROTOCOL_VERSION}, the client {hello.version}"
        send(connection, CommandFailed(UsageError.__name__, f"{reason}: use the same release"))
        raise CheckpointStoreError(reason)
    send(connection, StoreWelcome(os.getpid(), chunk_bytes), client_fd)


def _ranges(command: LoadCheckpoint, layout: Layout) -> list[list[ByteRange]] | None:
    """Return the wanted ranges, checked, all for the first tensor; None for all bytes."""
    if command.ranges is None:
        return None
    ranges = []
    for one in command.ranges:
        inside = 0 <= one.partition < len(layout.partitions)
        if not inside or not (
            0 <= one.begin_bytes <= one.end_bytes <= layout.partitions[one.partition].size_bytes
        ):
            raise UsageError(f"{one} lies outside the checkpoint {command.path}")
        ranges.append(ByteRange(one.partition, one.begin_bytes, one.end_bytes))
    return [ranges, *([] for _ in layout.tensors)][: len(layout.tensors)]


@contextmanager
def running_store(
    pool: ChunkPool, path: Path, options: LoadOptions = DEFAULT_OPTIONS
) -> Iterator[StoreServer]:
    """Run a store in a thread of this process until the end."""
    with listening_socket(path) as listener:
        server = StoreServer(pool, listener, options)
        thread = threading.Thread(target=server.serve, name="checkpoint store", daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.stop()
            thread.join()
