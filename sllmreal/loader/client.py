"""An engine process's side of the pool: maps the daemon's memory and sees its loads as tensors."""

import mmap
import os
import socket
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import torch

from sllmcore.errors import ClusterError, SllmError, UsageError
from sllmreal.checkpoint.errors import BadCheckpointError, CorruptCheckpointError, StorageError
from sllmreal.checkpoint.layout import Layout
from sllmreal.checkpoint.source import read_layout
from sllmreal.loader import wire
from sllmreal.loader.errors import (
    CheckpointInUseError,
    DaemonError,
    LoadCancelledError,
    PoolExhaustedError,
)
from sllmreal.loader.plan import ByteRange, ChunkKey
from sllmreal.loader.shard import Shard, sliced, wanted_ranges
from sllmreal.loader.tensors import HostViews
from sllmreal.loader.window import map_window

VERSION = 1
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


class PoolLease:
    """A checkpoint's tensors in the pool, not evicted until the lease is released."""

    def __init__(
        self,
        identity: str,
        lease: int,
        tensors: dict[str, torch.Tensor],
        mappings: Sequence[mmap.mmap],
    ) -> None:
        self.identity = identity
        self.lease = lease
        self.tensors = tensors
        self._mappings = [weakref.ref(mapping) for mapping in mappings]

    def drop(self) -> None:
        """Forget the tensors. Raises CheckpointInUseError while others still hold any."""
        self.tensors = {}
        if any(mapping() is not None for mapping in self._mappings):
            raise CheckpointInUseError("tensors of this lease still live")


class PoolClient:
    """A connection to a server's pool daemon, in use as a context manager; one thread at a time."""

    def __init__(self, path: Path, root: Path) -> None:
        """`path` is the daemon's socket, `root` the directory that it serves."""
        self._root = Path(root)
        self._lock = threading.Lock()
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._connection.connect(str(path))
            wire.send(self._connection, wire.Hello(VERSION))
            welcome, self._pool_fd = wire.receive_with_fd(self._connection, wire.Welcome)
        except OSError as error:
            self._connection.close()
            raise DaemonError(f"no daemon at {path}: {error}") from error
        except DaemonError:
            self._connection.close()
            raise
        self.chunk_bytes = welcome.chunk_bytes

    def __enter__(self) -> "PoolClient":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection and with it all leases: their tensors must not be used any more."""
        self._connection.close()
        os.close(self._pool_fd)

    def load(self, model: str, shard: Shard | None = None) -> PoolLease:
        """Have `model` loaded into the pool, as far as it is not there, and view it.

        Raises what the load raised in the daemon, and DaemonError where that is gone.
        """
        layout = read_layout(self._root / model)
        with self._lock:
            return self._load(model, layout, shard)

    def evict(self, identity: str, num_bytes: int | None = None) -> int:
        """Free the last `num_bytes` of a checkpoint, None for all; returns the bytes freed."""
        with self._lock:
            return self._done(wire.Evict(identity, num_bytes)).num_bytes

    def release(self, lease: PoolLease) -> None:
        """End a lease whose tensors are gone. Raises CheckpointInUseError while one lives."""
        lease.drop()
        with self._lock:
            self._done(wire.Release(lease.lease))

    def report(self) -> wire.Report:
        """What the pool holds."""
        with self._lock:
            answer = self._asked(wire.Status())
        if not isinstance(answer, wire.Report):
            raise DaemonError(f"unexpected answer {type(answer).__name__}")
        return answer

    def _load(self, model: str, layout: Layout, shard: Shard | None) -> PoolLease:
        ranges = _ranges(layout, shard)
        assigned = self._asked(wire.Load(model, ranges))
        if not isinstance(assigned, wire.Assigned):
            raise DaemonError(f"unexpected answer {type(assigned).__name__}")
        while not isinstance(answer := self._answer(), wire.Done):
            if not isinstance(answer, wire.Landed):
                raise DaemonError(f"unexpected answer {type(answer).__name__}")
        if assigned.identity != layout.identity:
            self._done(wire.Release(assigned.lease))
            raise StorageError(f"{model} was replaced while it was loaded: try again")
        chunks = {ChunkKey(one.partition, one.number): one.chunk for one in assigned.places}
        images = map_window(layout, self.chunk_bytes, self._pool_fd, chunks)
        views = HostViews(images)
        tensors = {}
        for entry in layout.tensors:
            tensor = views.tensor(entry)
            tensors[entry.name] = tensor if shard is None else sliced(tensor, entry, shard)
        mappings = [image.mapping for image in images]
        return PoolLease(layout.identity, assigned.lease, tensors, mappings)

    def _done(self, command: wire.Command) -> wire.Done:
        answer = self._asked(command)
        if not isinstance(answer, wire.Done):
            raise DaemonError(f"unexpected answer {type(answer).__name__}")
        return answer

    def _asked(self, command: wire.Command) -> wire.Answer:
        wire.send(self._connection, command)
        return self._answer()

    def _answer(self) -> wire.Answer:
        answer: wire.Answer = wire.receive(self._connection, wire.Answer)  # type: ignore[arg-type]
        if isinstance(answer, wire.Failed):
            raise _ERRORS.get(answer.kind, ClusterError)(answer.reason)
        return answer


def _ranges(layout: Layout, shard: Shard | None) -> tuple[wire.Range, ...] | None:
    if shard is None:
        return None
    wanted = [wanted_ranges(tensor, shard) for tensor in layout.tensors]
    merged = _merged([one for ranges in wanted for one in ranges])
    return tuple(wire.Range(one.partition, one.begin_bytes, one.end_bytes) for one in merged)


def _merged(ranges: Sequence[ByteRange]) -> list[ByteRange]:
    """The same bytes in as few ranges as possible."""
    merged: list[ByteRange] = []
    for one in sorted(ranges, key=lambda one: (one.partition, one.begin_bytes)):
        last = merged[-1] if merged else None
        if last and last.partition == one.partition and one.begin_bytes <= last.end_bytes:
            end = max(last.end_bytes, one.end_bytes)
            merged[-1] = ByteRange(last.partition, last.begin_bytes, end)
        else:
            merged.append(one)
    return merged
