"""A leader's log in its process's memory: with the process everything is forgotten.

For a cluster that is one process, whose workers and requests end with the leader anyway, and to
measure what durability costs.
"""

from collections.abc import AsyncIterator, Sequence


class MemoryLog:
    """`Log` without a store.

    Attributes:
        kept: The lines behind the snapshot, from the oldest on.
    """

    def __init__(self) -> None:
        self.kept: list[str] = []
        self._num_gone = 0  # before those
        self._snapshot: bytes | None = None

    @property
    def num_keys(self) -> int:
        """What it takes: lines, here."""
        return len(self.kept)

    async def append(self, lines: Sequence[str]) -> int:
        """See `Log.append`: at once. Returns how many lines there ever were."""
        self.kept += lines
        return self._num_gone + len(self.kept)

    async def snapshot(self) -> bytes | None:
        """See `Log.snapshot`."""
        return self._snapshot

    async def lines(self) -> AsyncIterator[str]:
        """See `Log.lines`."""
        for line in tuple(self.kept):
            yield line

    async def compact(self, snapshot: bytes, batch: int | None = None) -> None:
        """See `Log.compact`."""
        num_lines = len(self.kept) if batch is None else batch - self._num_gone
        del self.kept[:num_lines]
        self._num_gone += num_lines
        self._snapshot = snapshot
