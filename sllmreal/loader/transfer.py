"""Carrying out a plan: read, verify, then whatever the destination needs, each on its own threads.

Time of a transfer = that of its slowest stage. Nothing is handed out before its hash was checked.
"""

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import xxhash

from sllmcore.errors import UsageError
from sllmreal.checkpoint.errors import CorruptCheckpointError
from sllmreal.checkpoint.layout import HASH_BYTES, Layout
from sllmreal.loader.fill import Fill
from sllmreal.loader.memory import buffer_at
from sllmreal.loader.pipeline import Cancellation, PipelineStage, run_pipeline
from sllmreal.loader.plan import DEFAULT_CHUNK_BYTES, ChunkRead


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """Threads and sizes. The defaults were best on one NVMe disk; an array wants more readers."""

    chunk_bytes: int = DEFAULT_CHUNK_BYTES  # with a pool, the pool's chunk size is taken
    num_faulters: int = 2  # of fresh memory, which 2 cores give at 8 GB/s and disks never outrun
    num_readers: int = 8
    num_verifiers: int = min(4, os.cpu_count() or 1)  # 20 GB/s each
    num_writers: int = 2  # to the SSD, of what comes from remote storage
    num_copiers: int = 2  # per device: one copy runs while the next is queued
    queue_chunks: int = 16
    staging_chunks: int = 16  # of pinned memory, when a device is loaded without a pool
    verify_resident: bool = False  # hash again what the pool has; what differs is read again

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if name != "verify_resident" and getattr(self, name) <= 0:
                raise UsageError(f"{name} must be positive, got {getattr(self, name)}")


DEFAULT_OPTIONS = LoadOptions()


class Reader(Protocol):
    """Where chunks come from: files, or a storage service."""

    def read_into(self, read: ChunkRead, address: int) -> None:
        """Fill memory at `address`, which has room up to a whole block. Called by many threads.

        Raises StorageError when the bytes cannot be had.
        """
        ...

    @property
    def keep(self) -> "Callable[[ChunkRead, int], None] | None":
        """What stores a verified chunk, given its address, in a nearer tier; None: nothing."""
        ...


class LoadDestination(Protocol):
    """Where chunks go, by position in the plan."""

    def address(self, position: int) -> int:
        """Memory for that read; may wait until there is some."""
        ...

    @property
    def lasting(self) -> bool:
        """Whether a landed chunk stays at its address until the transfer ends."""
        ...

    def ahead(self) -> Sequence[PipelineStage]:
        """What happens to a chunk's memory before the chunk is read."""
        ...

    def stages(self) -> Sequence[PipelineStage]:
        """What happens to a verified chunk before it counts as landed."""
        ...

    def abort(self) -> None:
        """Wake threads that wait in `address`: the transfer failed."""
        ...


def transfer(
    fill: Fill,
    reader: Reader,
    destination: LoadDestination,
    landed: Callable[[int], None],
    options: LoadOptions = DEFAULT_OPTIONS,
    cancellation: Cancellation | None = None,
) -> None:
    """Move every read of the plan; `landed(position)` is called once for each, one at a time.

    Returns when a reader that keeps chunks in a nearer tier has kept them all.
    Positions in place hold verified bytes at their address: they are neither read nor verified.
    Raises the first error, of a read, a hash or the destination; no thread is left running.
    """
    plan = fill.plan
    in_place = fill.in_place
    if not plan.reads:
        return
    addresses: dict[int, int] = {}
    landing = threading.Lock()

    def read(position: int) -> None:
        address = destination.address(position)
        addresses[position] = address
        if position not in in_place:
            reader.read_into(plan.reads[position], address)

    def verify(position: int) -> None:
        if position not in in_place:
            verify_chunk(plan.layout, plan.reads[position], addresses[position])

    def land(position: int) -> None:
        with landing:
            landed(position)

    stages = [*destination.ahead(), PipelineStage("read", read, options.num_readers)]
    if plan.layout.chunk_bytes is not None:
        stages.append(PipelineStage("verify", verify, options.num_verifiers))
    after = [*destination.stages(), PipelineStage("land", land, 1)]
    if (store := reader.keep) is not None:

        def keep(position: int) -> None:
            store(plan.reads[position], addresses[position])

        kept = PipelineStage("keep", keep, options.num_writers, queue_chunks=len(plan.reads))
        # A slow SSD holds nothing up where landed bytes stay: they are stored afterwards.
        after = [*after, kept] if destination.lasting else [kept, *after]
    stages += after
    waiting = range(len(plan.reads))
    run_pipeline(stages, waiting, options.queue_chunks, cancellation, destination.abort)


def verify_chunk(layout: Layout, read: ChunkRead, address: int) -> None:
    """Raise CorruptCheckpointError unless every hashed chunk inside `read` has its hash."""
    assert layout.chunk_bytes is not None, "the format records hashes"
    part = layout.partitions[read.key.partition]
    step = layout.chunk_bytes
    for begin in range(0, read.size_bytes, step):
        data = buffer_at(address + begin, min(step, read.size_bytes - begin))
        number = (read.offset_bytes + begin) // step
        expected = part.chunk_hashes[HASH_BYTES * number : HASH_BYTES * (number + 1)]
        if xxhash.xxh3_128_digest(data) != expected:
            raise CorruptCheckpointError(f"{part.file}: chunk {number} differs from its hash")
