"""Host memory as the destination of a transfer: fresh memory, or chunks of a pool."""

import mmap
from collections.abc import Mapping, Sequence

import torch

from sllmreal.loader.memory import Image, buffer_at, populate
from sllmreal.loader.pipeline import PipelineStage
from sllmreal.loader.plan import ChunkKey, LoadPlan
from sllmreal.loader.pool import ChunkPool


class FreshMemory:
    """Fresh memory: an image per partition, with a place for every chunk.

    Pages are faulted in before the readers need them: a direct read that waits for the kernel to
    clear new pages leaves the disk idle, a tenth of the time on two cores.
    """

    def __init__(self, plan: LoadPlan, images: Sequence[Image], num_faulters: int) -> None:
        self._plan = plan
        self._images = images
        self._num_faulters = num_faulters

    @property
    def keeps_chunks(self) -> bool:
        return True

    def address(self, position: int) -> int:
        read = self._plan.reads[position]
        return self._images[read.key.partition].address + read.offset_bytes

    def stages_before_read(self) -> Sequence[PipelineStage]:
        return (PipelineStage("fault in", self._fault_in, self._num_faulters),)

    def stages_after_read(self) -> Sequence[PipelineStage]:
        return ()

    def abort(self) -> None:
        return

    def _fault_in(self, position: int) -> None:
        populate(self.address(position), self._plan.reads[position].size_bytes)


class PoolMemory:
    """Chunks of a pool; `chunks` gives the pool chunk of each checkpoint chunk.

    If no hash reads a chunk, one byte of each of its pages is read while later chunks are loaded:
    in a virtual machine, the first read of memory that only a disk has written costs a tenth of
    a load's time, in the host's page tables.
    """

    def __init__(self, plan: LoadPlan, pool: ChunkPool, chunks: Mapping[ChunkKey, int]) -> None:
        self._plan = plan
        self._pool = pool
        self._chunks = chunks

    @property
    def keeps_chunks(self) -> bool:
        return True

    def address(self, position: int) -> int:
        return self._pool.chunk_address(self._chunks[self._plan.reads[position].key])

    def stages_before_read(self) -> Sequence[PipelineStage]:
        return ()

    def stages_after_read(self) -> Sequence[PipelineStage]:
        hashed = self._plan.layout.chunk_bytes is not None
        return () if hashed else (PipelineStage("touch", self._touch, 1),)

    def abort(self) -> None:
        return

    def _touch(self, position: int) -> None:
        chunk = buffer_at(self.address(position), self._plan.reads[position].size_bytes)
        torch.frombuffer(chunk, dtype=torch.uint8)[:: mmap.PAGESIZE].sum()  # without the GIL
