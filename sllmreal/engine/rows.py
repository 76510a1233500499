"""The cache row of each sequence: a batch to decode needs the first rows, without gaps."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sllmreal.engine.sequence import RunningSequence


@dataclass(frozen=True, slots=True)
class RowChange:
    """A move of row `source` to row `target`, and of `target` to `source` if both are used."""

    source: int
    target: int
    both: bool


class Rows:
    """An assignment of sequences to rows. Rows change only when a batch would have gaps."""

    def __init__(self, num_rows: int) -> None:
        self._occupants: list[RunningSequence | None] = [None] * num_rows
        self._row_of: dict[RunningSequence, int] = {}

    def __getitem__(self, sequence: RunningSequence) -> int:
        return self._row_of[sequence]

    def add(self, sequence: RunningSequence) -> None:
        """Give a sequence the lowest free row; the caller ensures that there is one."""
        self._put(sequence, self._occupants.index(None))

    def remove(self, sequence: RunningSequence) -> None:
        self._occupants[self._row_of.pop(sequence)] = None

    def gathered(self, batch: Sequence[RunningSequence]) -> Iterator[RowChange]:
        """Move a batch to the first rows; yield each change, to be executed before the next one."""
        outside = [one for one in batch if self._row_of[one] >= len(batch)]
        if not outside:
            return
        wanted = set(batch)
        for row in range(len(batch)):
            occupant = self._occupants[row]
            if occupant in wanted:
                continue
            newcomer = outside.pop()
            source = self._row_of[newcomer]
            yield RowChange(source, row, both=occupant is not None)
            self._occupants[source] = None
            if occupant is not None:
                self._put(occupant, source)
            self._put(newcomer, row)

    def _put(self, sequence: RunningSequence, row: int) -> None:
        self._occupants[row] = sequence
        self._row_of[sequence] = row
