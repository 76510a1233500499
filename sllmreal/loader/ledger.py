"""Which chunk of the pool holds what: bookkeeping without memory, threads or I/O.

Every pool chunk is either free, reserved by a load, or resident as one chunk of one checkpoint.
"""

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sllmcore.errors import UsageError
from sllmreal.loader.errors import PoolExhaustedError
from sllmreal.loader.plan import ChunkKey


@dataclass(frozen=True, slots=True)
class ResidentChunk:
    """A pool chunk and how many bytes of it are a checkpoint's."""

    chunk: int
    size_bytes: int


class PoolLedger:
    """Free chunks, and the resident ones by checkpoint identity. The caller holds a lock."""

    def __init__(self, num_chunks: int) -> None:
        if num_chunks <= 0:
            raise UsageError(f"a pool has at least one chunk, got {num_chunks}")
        self.num_chunks = num_chunks
        self._free = list(range(num_chunks))  # a heap: low chunks first, so that runs are long
        self._resident: dict[str, dict[ChunkKey, ResidentChunk]] = {}

    @property
    def num_free(self) -> int:
        return len(self._free)

    def reserve(self, num: int) -> list[int]:
        """Take `num` free chunks, or none and PoolExhaustedError."""
        if num > len(self._free):
            raise PoolExhaustedError(
                f"{num} chunks needed, {len(self._free)} of {self.num_chunks} free"
            )
        return [heapq.heappop(self._free) for _ in range(num)]

    def release(self, chunks: Iterable[int]) -> None:
        """Give reserved chunks back."""
        for chunk in chunks:
            heapq.heappush(self._free, chunk)

    def commit(self, identity: str, chunks: Mapping[ChunkKey, ResidentChunk]) -> None:
        """Reserved chunks now hold verified bytes of a checkpoint."""
        if chunks:
            known = self._resident.setdefault(identity, {})
            assert known.keys().isdisjoint(chunks), "a chunk is loaded once"
            known.update(chunks)

    def resident(self, identity: str) -> dict[ChunkKey, int]:
        """Pool chunks of a checkpoint by place; empty when nothing of it is resident."""
        held = self._resident.get(identity, {})
        return {key: resident.chunk for key, resident in held.items()}

    def resident_bytes(self) -> dict[str, int]:
        """Bytes resident of every checkpoint that has any."""
        return {
            identity: sum(resident.size_bytes for resident in held.values())
            for identity, held in self._resident.items()
        }

    def evict(self, identity: str, num_bytes: int | None = None) -> int:
        """Free chunks of a checkpoint, last ones first, until `num_bytes` are gone; None: all.

        The head stays: the next load starts from it at once while the rest is read. Returns the
        bytes freed, 0 when it was not resident.
        """
        held = self._resident.get(identity, {})
        freed_bytes = 0
        for key in sorted(held, key=lambda key: (key.partition, key.number), reverse=True):
            if num_bytes is not None and freed_bytes >= num_bytes:
                break
            resident = held.pop(key)
            freed_bytes += resident.size_bytes
            heapq.heappush(self._free, resident.chunk)
        if not held:
            self._resident.pop(identity, None)
        return freed_bytes
