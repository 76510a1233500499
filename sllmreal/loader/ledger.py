"""Which chunk of the pool holds what: bookkeeping without memory, threads or I/O.

Every pool chunk is either free, reserved by a load, or resident as one chunk of one checkpoint. Of
those some may be spoilt: kept until they are loaded again or evicted, and never handed out.
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
        self._spoilt: dict[str, set[ChunkKey]] = {}

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
        """Reserved chunks, or spoilt ones, now hold verified bytes of a checkpoint."""
        if chunks:
            known = self._resident.setdefault(identity, {})
            spoilt = self._spoilt.get(identity, set())
            assert (known.keys() - spoilt).isdisjoint(chunks), "a chunk is loaded once"
            known.update(chunks)
            spoilt.difference_update(chunks)

    def spoil(self, identity: str, keys: Iterable[ChunkKey]) -> None:
        """Bytes of these resident chunks are wrong."""
        self._spoilt.setdefault(identity, set()).update(keys)

    def resident(self, identity: str) -> dict[ChunkKey, int]:
        """Pool chunks of a checkpoint by place; empty when nothing of it is resident."""
        spoilt = self._spoilt.get(identity, set())
        held = self._resident.get(identity, {})
        return {key: one.chunk for key, one in held.items() if key not in spoilt}

    def spoilt(self, identity: str) -> dict[ChunkKey, int]:
        """Pool chunks of a checkpoint that must be loaded again, by place."""
        held = self._resident.get(identity, {})
        return {key: held[key].chunk for key in self._spoilt.get(identity, ())}

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
            self._spoilt.get(identity, set()).discard(key)
            freed_bytes += resident.size_bytes
            heapq.heappush(self._free, resident.chunk)
        if not held:
            self._resident.pop(identity, None)
            self._spoilt.pop(identity, None)
        return freed_bytes
