"""Bookkeeping of a pool's chunks, without memory, threads or I/O.

Every pool chunk is free, reserved by a load, or resident as one chunk of one checkpoint. A resident
chunk may be corrupt: it is kept until it is loaded again or evicted, and never handed out.
"""

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sllmcore.errors import UsageError
from sllmreal.loader.errors import PoolExhaustedError
from sllmreal.loader.plan import ChunkKey


@dataclass(frozen=True, slots=True)
class ResidentChunk:
    """A pool chunk, and the number of its bytes that belong to a checkpoint."""

    chunk: int
    size_bytes: int


class PoolLedger:
    """Free chunks, and the resident ones by checkpoint identity. The caller holds a lock."""

    def __init__(self, num_chunks: int) -> None:
        if num_chunks <= 0:
            raise UsageError("a pool must have room for at least one chunk")
        self.num_chunks = num_chunks
        self._free = list(range(num_chunks))  # a heap: low chunks first, for long runs
        self._resident: dict[str, dict[ChunkKey, ResidentChunk]] = {}
        self._corrupt: dict[str, set[ChunkKey]] = {}

    @property
    def num_free(self) -> int:
        """Number of free chunks."""
        return len(self._free)

    def reserve(self, num: int) -> list[int]:
        """Take `num` free chunks. Raises PoolExhaustedError, taking none, if there are fewer."""
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
        """Record that reserved or corrupt chunks now hold verified bytes of a checkpoint."""
        if chunks:
            known = self._resident.setdefault(identity, {})
            corrupt = self._corrupt.get(identity, set())
            assert (known.keys() - corrupt).isdisjoint(chunks), "a chunk is loaded once"
            known.update(chunks)
            corrupt.difference_update(chunks)

    def mark_corrupt(self, identity: str, keys: Iterable[ChunkKey]) -> None:
        """Record that these resident chunks hold wrong bytes."""
        self._corrupt.setdefault(identity, set()).update(keys)

    def resident(self, identity: str) -> dict[ChunkKey, int]:
        """Return the pool chunk of each resident chunk of a checkpoint that is not corrupt."""
        corrupt = self._corrupt.get(identity, set())
        held = self._resident.get(identity, {})
        return {key: one.chunk for key, one in held.items() if key not in corrupt}

    def corrupt(self, identity: str) -> dict[ChunkKey, int]:
        """Return the pool chunk of each corrupt chunk of a checkpoint."""
        held = self._resident.get(identity, {})
        return {key: held[key].chunk for key in self._corrupt.get(identity, ())}

    def resident_bytes(self) -> dict[str, int]:
        """Return the resident bytes of every checkpoint that has any."""
        return {
            identity: sum(resident.size_bytes for resident in held.values())
            for identity, held in self._resident.items()
        }

    def evict(self, identity: str, num_bytes: int | None = None) -> int:
        """Free chunks of a checkpoint, last ones first, until `num_bytes` are free; None: all.

        The first chunks stay, so that the next load starts with them while it reads the rest.
        Return the bytes freed, 0 if none was resident.
        """
        held = self._resident.get(identity, {})
        freed_bytes = 0
        for key in sorted(held, key=lambda key: (key.partition, key.number), reverse=True):
            if num_bytes is not None and freed_bytes >= num_bytes:
                break
            resident = held.pop(key)
            self._corrupt.get(identity, set()).discard(key)
            freed_bytes += resident.size_bytes
            heapq.heappush(self._free, resident.chunk)
        if not held:
            self._resident.pop(identity, None)
            self._corrupt.pop(identity, None)
        return freed_bytes
