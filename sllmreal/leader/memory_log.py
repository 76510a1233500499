"""A leader's log in the memory of its process, with which it ends.

A cluster of one process uses it, for there the workers and requests end with the leader anyway.
The benchmark of the control plane uses it to measure the cost of durability.
"""

from collections.abc import AsyncIterator, Sequence


class MemoryLog:
    """An `EventLog` without a store.

    Attributes:
        kept: The lines behind the snapshot, oldest first.
    """

    def __init__(self) -> None:
        self.kept: list[str] = []
        self._num_replaced = 0  # lines that the snapshot replaces
        self._snapshot: bytes | None = None

    @property
    def num_keys(self) -> int:
        """The number of lines, which take no keys."""
        return len(self.kept)

    async def append(self, lines: Sequence[str]) -> int:
        """See `EventLog.append`. The number of a batch is the number of lines up to its end."""
        self.kept += lines
        return self._num_replaced + len(self.kept)

    async def snapshot(self) -> bytes | None:
        """See `EventLog.snapshot`."""
        return self._snapshot

    async def lines(self) -> AsyncIterator[str]:
        """See `EventLog.lines`."""
        for line in tuple(self.kept):
            yield line

    async def compact(self, snapshot: bytes, batch: int | None = None) -> None:
        """See `EventLog.compact`."""
        num_lines = len(self.kept) if batch is None else batch - self._num_replaced
        del self.kept[:num_lines]
        self._num_replaced += num_lines
        self._snapshot = snapshot
