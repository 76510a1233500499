"""Execution of a plan as a pipeline: read, verify, then the stages of the destination.

time of a transfer = time of its slowest stage.  No chunk is handed out before its hash is checked.
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
    """Threads and sizes. The defaults were best on one NVMe disk; an array needs more readers."""

    chunk_bytes: int = DEFAULT_CHUNK_BYTES  # with a pool, the pool's chunk size is taken
    num_faulters: int = 2  # of fresh memory: 2 cores fault in 8 GB/s, more than a disk reads
    num_readers: int = 8
    num_verifiers: int = min(4, os.cpu_count() or 1)  # 20 GB/s each
    num_writers: int = 2  # to the SSD, of chunks from remote storage
    num_copiers: int = 2  # per device: one copy runs while the next is queued
    queue_chunks: int = 16
    staging_chunks: int = 16  # of pinned memory, for a device without a pool
    verify_resident: bool = False  # hash resident chunks again; corrupt ones are read again

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if name != "verify_resident" and getattr(self, name) <= 0:
                raise UsageError(f"{name} must be positive, got {getattr(self, name)}")


DEFAULT_OPTIONS = LoadOptions()


class PartitionReader(Protocol):
    """A source of chunks: files, or a storage service."""

    def read_into(self, read: ChunkRead, address: int) -> None:
        """Read a chunk to `address`, which has room up to a whole block. Called by many threads.

        Raises StorageError if the bytes cannot be read.
        """
        ...

    @property
    def keep(self) -> "Callable[[ChunkRead, int], None] | None":
        """A function that stores the verified chunk at an address in a nearer tier, or None."""
        ...


class LoadDestination(Protocol):
    """The memory of the plan's chunks, by position in the plan."""

    def address(self, position: int) -> int:
        """Return the address for that read; may wait for free memory."""
        ...

    @property
    def keeps_chunks(self) -> bool:
        """True if a landed chunk stays at its address until the transfer ends."""
        ...

    def stages_before_read(self) -> Sequence[PipelineStage]:
        """Return the stages for a chunk's memory before the chunk is read."""
        ...

    def stages_after_read(self) -> Sequence[PipelineStage]:
        """Return the stages for a verified chunk before it counts as landed."""
        ...

    def abort(self) -> None:
        """Wake threads that wait in `address`: the transfer failed."""
        ...


def transfer(
    fill: Fill,
    reader: PartitionReader,
    destination: LoadDestination,
    landed: Callable[[int], None],
    options: LoadOptions = DEFAULT_OPTIONS,
    cancellation: Cancellation | None = None,
) -> None:
    """Transfer every read of the plan; call `landed(position)` once for each, one at a time.

    Returns when the reader has stored all chunks in a nearer tier, if it has one. Positions in
    place are neither read nor verified. Raises the first error of a read, a hash or the
    destination; no thread is running then.
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

    stages = [*destination.stages_before_read(), PipelineStage("read", read, options.num_readers)]
    if plan.layout.chunk_bytes is not None:
        stages.append(PipelineStage("verify", verify, options.num_verifiers))
    after = [*destination.stages_after_read(), PipelineStage("land", land, 1)]
    if (store := reader.keep) is not None:

        def keep(position: int) -> None:
            store(plan.reads[position], addresses[position])

        kept = PipelineStage("keep", keep, options.num_writers, queue_chunks=len(plan.reads))
        # If landed chunks stay in place, they are stored last: a slow SSD then delays no chunk.
        after = [*after, kept] if destination.keeps_chunks else [kept, *after]
    stages += after
    waiting = range(len(plan.reads))
    run_pipeline(
        stages=stages,
        chunks=waiting,
        queue_chunks=options.queue_chunks,
        cancellation=cancellation,
        on_abort=destination.abort,
    )


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
