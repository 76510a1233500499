"""Host memory as the end of a transfer: fresh memory, or chunks of the pool."""

import mmap
from collections.abc import Mapping, Sequence

import torch

from sllmreal.loader.memory import Image, buffer_at, populate
from sllmreal.loader.pipeline import PipelineStage
from sllmreal.loader.plan import ChunkKey, LoadPlan
from sllmreal.loader.pool import ChunkPool


class FreshMemory:
    """Images of the partitions, one each; every chunk goes to its own place.

    Its pages are faulted in ahead of the readers: a direct read that has to wait for the kernel to
    clear new pages leaves the disk idle meanwhile, a tenth of the time on two cores.
    """

    def __init__(self, plan: LoadPlan, images: Sequence[Image], num_faulters: int) -> None:
        self._plan = plan
        self._images = images
        self._num_faulters = num_faulters

    @property
    def lasting(self) -> bool:
        return True

    def address(self, position: int) -> int:
        read = self._plan.reads[position]
        return self._images[read.key.partition].address + read.offset_bytes

    def ahead(self) -> Sequence[PipelineStage]:
        return (PipelineStage("fault in", self._fault_in, self._num_faulters),)

    def stages(self) -> Sequence[PipelineStage]:
        return ()

    def abort(self) -> None:
        return

    def _fault_in(self, position: int) -> None:
        populate(self.address(position), self._plan.reads[position].size_bytes)


class PoolMemory:
    """Chunks of the pool, by the chunk of the checkpoint that each is for.

    Where no hash has looked at them, one byte of every page is looked at while the following chunks
    are read: the first look at memory that only a disk has written to costs a virtual machine a
    tenth of a load's time, in its host's page tables.
    """

    def __init__(self, plan: LoadPlan, pool: ChunkPool, chunks: Mapping[ChunkKey, int]) -> None:
        self._plan = plan
        self._pool = pool
        self._chunks = chunks

    @property
    def lasting(self) -> bool:
        return True

    def address(self, position: int) -> int:
        return self._pool.chunk_address(self._chunks[self._plan.reads[position].key])

    def ahead(self) -> Sequence[PipelineStage]:
        return ()

    def stages(self) -> Sequence[PipelineStage]:
        hashed = self._plan.layout.chunk_bytes is not None
        return () if hashed else (PipelineStage("look", self._look, 1),)

    def abort(self) -> None:
        return

    def _look(self, position: int) -> None:
        chunk = buffer_at(self.address(position), self._plan.reads[position].size_bytes)
        torch.frombuffer(chunk, dtype=torch.uint8)[:: mmap.PAGESIZE].sum()  # without the GIL
