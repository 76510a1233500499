"""Host memory as the end of a transfer: fresh memory, or chunks of the pool."""

from collections.abc import Mapping, Sequence

from sllmreal.loader.memory import Image
from sllmreal.loader.pipeline import Stage
from sllmreal.loader.plan import ChunkKey, LoadPlan
from sllmreal.loader.pool import ChunkPool


class FreshMemory:
    """Images of the partitions, one each; every chunk goes to its own place."""

    def __init__(self, plan: LoadPlan, images: Sequence[Image]) -> None:
        self._plan = plan
        self._images = images

    @property
    def lasting(self) -> bool:
        return True

    def address(self, position: int) -> int:
        read = self._plan.reads[position]
        return self._images[read.key.partition].address + read.offset_bytes

    def stages(self) -> Sequence[Stage]:
        return ()

    def abort(self) -> None:
        return


class PoolMemory:
    """Chunks of the pool, by the chunk of the checkpoint that each is for."""

    def __init__(self, plan: LoadPlan, pool: ChunkPool, chunks: Mapping[ChunkKey, int]) -> None:
        self._plan = plan
        self._pool = pool
        self._chunks = chunks

    @property
    def lasting(self) -> bool:
        return True

    def address(self, position: int) -> int:
        return self._pool.chunk_address(self._chunks[self._plan.reads[position].key])

    def stages(self) -> Sequence[Stage]:
        return ()

    def abort(self) -> None:
        return
