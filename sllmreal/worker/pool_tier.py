"""The pool of a server's memory as a tier: verified chunks of models, freed from the end."""

import gc
import os
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import replace

from sllmcore.types import DRAM
from sllmreal.checkpoint.layout import Layout
from sllmreal.engine.weights import PoolPlace, Weights
from sllmreal.loader.destination import PoolMemory
from sllmreal.loader.errors import CheckpointInUseError
from sllmreal.loader.fill import Fill
from sllmreal.loader.ledger import ResidentChunk
from sllmreal.loader.pipeline import Cancellation
from sllmreal.loader.plan import ByteRange, ChunkKey, LoadPlan, check_chunk_bytes, plan_load
from sllmreal.loader.pool import ChunkPool
from sllmreal.loader.transfer import LoadOptions, transfer
from sllmreal.worker.ssd_copy import SsdCopy
from sllmreal.worker.storage import LoadResult, farthest
from sllmreal.worker.tier_reader import TierReader


class PoolTier:
    """A pool that is filled and trimmed. Loads of different identities may run concurrently."""

    def __init__(self, pool: ChunkPool, options: LoadOptions) -> None:
        self.pool = pool
        self._options = options

    def fill(self, copy: SsdCopy, keep_bytes: int, cancellation: Cancellation) -> LoadResult:
        """Load the missing chunks of a model. Store those within `keep_bytes` on the SSD. Blocks.

        After an error the pool is as before.

        Raises:
            LoadCancelledError: `cancellation` was cancelled.
            SllmError: A chunk cannot be read, or the pool is full.
        """
        layout = copy.layout
        resident = self.pool.resident(layout.identity)
        plan = _plan(layout, self.pool.chunk_bytes, resident.keys())
        moved = {DRAM: layout.size_bytes - plan.size_bytes}
        chunks = resident
        if plan.reads:
            with ExitStack() as stack:
                reservation = stack.enter_context(self.pool.reserved(len(plan.reads)))
                fresh = {
                    read.key: ResidentChunk(chunk, read.size_bytes)
                    for read, chunk in zip(plan.reads, reservation.chunks, strict=True)
                }
                chunks = resident | {key: one.chunk for key, one in fresh.items()}
                opened = stack.enter_context(copy.opened())
                reader = TierReader(copy, opened, keep_bytes, stack)
                memory = PoolMemory(plan, self.pool, chunks)
                fill = Fill(plan, chunks)
                transfer(fill, reader, memory, lambda _: None, self._options, cancellation)
                moved |= reader.moved_bytes
                reservation.commit(layout.identity, fresh)
        return replace(farthest(moved), weights=self._weights(copy, chunks))

    def trim(self, identity: str, keep_bytes: int) -> bool:
        """Free all but the first `keep_bytes`. Return False if tensors in this process use them."""
        present_bytes = self.pool.status().resident_bytes.get(identity, 0)
        if present_bytes <= keep_bytes or self._evicted(identity, present_bytes - keep_bytes):
            return True
        gc.collect()  # an engine may have left its tensors in a reference cycle
        return self._evicted(identity, present_bytes - keep_bytes)

    def _evicted(self, identity: str, num_bytes: int) -> bool:
        try:
            self.pool.evict(identity, num_bytes)
        except CheckpointInUseError:
            return False
        return True

    def _weights(self, copy: SsdCopy, chunks: dict[ChunkKey, int]) -> Weights:
        return Weights(
            directory=str(copy.checkpoint),
            identity=copy.layout.identity,
            pool_pid=os.getpid(),
            pool_fd=self.pool.fd,
            chunk_bytes=self.pool.chunk_bytes,
            places=tuple(PoolPlace(k.partition, k.number, chunk) for k, chunk in chunks.items()),
        )


def _plan(layout: Layout, chunk_bytes: int, resident: Collection[ChunkKey]) -> LoadPlan:
    """Return a plan of all chunks that are not resident. Chunks are verified by the reader."""
    check_chunk_bytes(chunk_bytes, layout)
    whole = [ByteRange(n, 0, part.size_bytes) for n, part in enumerate(layout.partitions)]
    return plan_load(replace(layout, chunk_bytes=None), chunk_bytes, [whole], resident)
