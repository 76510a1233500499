"""Clients of a checkpoint store: tensors as views of the memory that it shares.

    from sllmreal.loader import connect_store

    store = connect_store()                              # `sllm store serve` runs
    tensors = store.load_checkpoint("models/opt-1.3b")   # loads what is missing, maps the rest

A lease keeps the checkpoint in the store. It ends when the last tensor over its memory is freed, or
with the process: a tensor never shows bytes of another checkpoint.
"""

import os
import socket
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from sllmcore.errors import ClusterError, SllmError, UsageError
from sllmreal.checkpoint.errors import BadCheckpointError, CorruptCheckpointError, StorageError
from sllmreal.checkpoint.layout import Layout
from sllmreal.checkpoint.source import read_layout
from sllmreal.loader.errors import (
    CheckpointInUseError,
    CheckpointStoreError,
    LoadCancelledError,
    PoolExhaustedError,
)
from sllmreal.loader.memory import Image
from sllmreal.loader.plan import ByteRange, ChunkKey
from sllmreal.loader.shard import Shard, sliced, wanted_ranges
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
    StoreHello,
    StoreStatus,
    StoreWelcome,
    WantedRange,
    receive,
    receive_with_fd,
    send,
)
from sllmreal.loader.store_socket import DEFAULT_SOCKET, connected_socket
from sllmreal.loader.tensors import HostViews
from sllmreal.loader.window import map_window

Progress = Callable[[int, int], None]
"""A callback with (bytes read, bytes to read), called several times a second."""

A = TypeVar("A")
_ERRORS: dict[str, type[SllmError]] = {
    kind.__name__: kind
    for kind in (
        BadCheckpointError,
        CheckpointInUseError,
        CorruptCheckpointError,
        LoadCancelledError,
        PoolExhaustedError,
        StorageError,
        UsageError,
    )
}


def connect_store(path: str | Path = DEFAULT_SOCKET) -> "StoreClient":
    """Return a client of the store with the socket `path`.

    Raises CheckpointStoreError if no store runs there.
    """
    client = StoreClient(Path(path))
    client.status()
    return client


class StoreClient:
    """A client of a store, for any number of threads. It holds no connection between calls.

    Methods raise CheckpointStoreError if the store does not run.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.expanduser()

    def load_checkpoint(
        self,
        path: str | Path,
        *,
        name: str | None = None,
        shard: Shard | None = None,
        progress: Progress | None = None,
    ) -> dict[str, torch.Tensor]:
        """Load a checkpoint into the store and map it: tensors by name, on the CPU, verified.

        The tensors are views of the store's memory. Writing to one changes only this process.

        Args:
            path: A directory, or a safetensors file.
            name: The name in the store; None: the last part of `path`.
            shard: The rank to load the slices of; None loads whole tensors.
            progress: Called while the store reads.

        Raises the errors of `sllmreal.loader.load_checkpoint`, as the store raised them.
        """
        path = Path(path).absolute()
        layout = read_layout(path)
        command = LoadCheckpoint(str(path), name or path.name, ranges=_ranges(layout, shard))
        with self._connected() as pool:
            loaded = pool.load(command, progress)
            if loaded.identity != layout.identity:
                raise StorageError(f"{path} was replaced while it was loaded: try again")
            images = pool.mapped(layout, loaded.places)
        views = HostViews(images)
        tensors = {entry.name: views.tensor(entry) for entry in layout.tensors}
        if shard is None:
            return tensors
        return {one.name: sliced(tensors[one.name], one, shard) for one in layout.tensors}

    def preload(
        self, path: str | Path, *, name: str | None = None, progress: Progress | None = None
    ) -> CheckpointLoaded:
        """Load a checkpoint into the store without mapping it. It stays until it is evicted.

        Arguments and errors as in `load_checkpoint`.
        """
        path = Path(path).absolute()
        command = LoadCheckpoint(str(path), name or path.name, leased=False)
        with self._connected() as pool:
            return pool.load(command, progress)

    def evict(self, name: str) -> int:
        """Free a checkpoint, given by name, path or identity; return the bytes freed.

        Raises UsageError if none or several match, CheckpointInUseError if a process uses it.
        """
        return self._asked(EvictCheckpoint(name), CheckpointEvicted).num_bytes

    def status(self) -> StoreStatus:
        """Return the state of the pool, and the checkpoints in it."""
        return self._asked(GetStoreStatus(), StoreStatus)

    def _asked(self, command: StoreCommand, kind: type[A]) -> A:
        with self._connected() as pool:
            send(pool.connection, command)
            answer = _answer(pool.connection)
        if not isinstance(answer, kind):
            raise CheckpointStoreError(f"the store sent an unexpected {type(answer).__name__}")
        return answer

    @contextmanager
    def _connected(self) -> Iterator["_SharedPool"]:
        """Connect and receive the pool's descriptor; both are closed at the end."""
        with closing(connected_socket(self._path)) as connection:
            send(connection, StoreHello(PROTOCOL_VERSION))
            welcome: StoreWelcome | CommandFailed
            welcome, fd = receive_with_fd(connection, StoreWelcome | CommandFailed)  # type: ignore[arg-type]
            try:
                match welcome:
                    case StoreWelcome(_, chunk_bytes) if fd is not None:
                        yield _SharedPool(connection, fd, chunk_bytes)
                    case CommandFailed():
                        raise _error(welcome)
                    case _:
                        raise CheckpointStoreError("the store sent no descriptor of its pool")
            finally:
                if fd is not None:
                    os.close(fd)


@dataclass(frozen=True, slots=True)
class _SharedPool:
    """A connection to a store and its pool's descriptor."""

    connection: socket.socket
    fd: int
    chunk_bytes: int

    def load(self, command: LoadCheckpoint, progress: Progress | None) -> CheckpointLoaded:
        """Run a load; its lease lasts until the connection is closed."""
        send(self.connection, command)
        while isinstance(answer := _answer(self.connection), LoadProgress):
            if progress is not None:
                progress(answer.done_bytes, answer.total_bytes)
        if not isinstance(answer, CheckpointLoaded):
            raise CheckpointStoreError(f"the store sent an unexpected {type(answer).__name__}")
        return answer

    def mapped(self, layout: Layout, places: Sequence[ChunkPlace]) -> list[Image]:
        """Map chunks as images of the partitions. The lease lasts as long as one of them."""
        chunks = {ChunkKey(one.partition, one.number): one.chunk for one in places}
        images = map_window(layout, self.chunk_bytes, self.fd, chunks)
        for image in images:
            # A duplicate keeps the connection open, also in a forked child that has the mapping.
            lease_fd = os.dup(self.connection.fileno())
            weakref.finalize(image.mapping, os.close, lease_fd).atexit = False
        return images


def _answer(connection: socket.socket) -> StoreAnswer:
    answer: StoreAnswer = receive(connection, StoreAnswer)  # type: ignore[arg-type]
    if isinstance(answer, CommandFailed):
        raise _error(answer)
    return answer


def _error(failure: CommandFailed) -> SllmError:
    return _ERRORS.get(failure.kind, ClusterError)(failure.reason)


def _ranges(layout: Layout, shard: Shard | None) -> tuple[WantedRange, ...] | None:
    if shard is None:
        return None
    wanted = [wanted_ranges(tensor, shard) for tensor in layout.tensors]
    merged = _merged([one for ranges in wanted for one in ranges])
    return tuple(WantedRange(one.partition, one.begin_bytes, one.end_bytes) for one in merged)


def _merged(ranges: Sequence[ByteRange]) -> list[ByteRange]:
    """Join overlapping and adjacent ranges."""
    merged: list[ByteRange] = []
    for one in sorted(ranges, key=lambda one: (one.partition, one.begin_bytes)):
        last = merged[-1] if merged else None
        if last and last.partition == one.partition and one.begin_bytes <= last.end_bytes:
            end = max(last.end_bytes, one.end_bytes)
            merged[-1] = ByteRange(last.partition, last.begin_bytes, end)
        else:
            merged.append(one)
    return merged
