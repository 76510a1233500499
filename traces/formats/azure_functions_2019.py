"""Azure Functions 2019, invocations per function and minute (CC BY 4.0).

Columns HashOwner, HashApp, HashFunction, Trigger, 1..1440, one file a day; only HashFunction and
the minutes 1..n are needed, so a cut of the first minutes of a day is read as well. Counts are
stamped at the end of an execution. A source is `HashApp/HashFunction` (a function's hash is unique
only inside its app), or the function alone where the file has no app. Rows of the same function
are added up. Successive files are successive days: each starts where the one before ended.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from traces.cells import invocations, name, name_column
from traces.errors import TraceError
from traces.tables import Column, Header, parsed_cell
from traces.text_source import TextSource
from traces.windows import GapLaw, WindowCounts

MINUTE_S = 60.0


def read_counts(sources: Sequence[TextSource]) -> WindowCounts:
    """All files as sparse counts: 6 to 16 bytes per non-empty function-minute."""
    names: dict[str, int] = {}
    minutes: list[NDArray[np.int32]] = []
    functions: list[NDArray[np.int32]] = []
    counts: list[NDArray[np.int64]] = []
    first_minute = 0
    for source in sources:
        reader = _DayFile(source)
        for function, per_minute in reader.functions():
            index = names.setdefault(function, len(names))
            busy = np.flatnonzero(per_minute).astype(np.int32)
            minutes.append(busy + np.int32(first_minute))
            functions.append(np.full(len(busy), index, np.int32))
            counts.append(per_minute[busy])
        first_minute += reader.num_minutes
    return _sorted_counts(tuple(names), first_minute, minutes, functions, counts)


class _DayFile:
    """One file: its minute columns in order, and its functions."""

    def __init__(self, source: TextSource) -> None:
        self._source = source
        self._table = source.csv_rows()
        names = next(self._table, None)
        if names is None:
            raise TraceError("the file is empty", source.path)
        self._header = Header(source, names)
        labels = ("HashApp", "HashFunction") if "HashApp" in names else ("HashFunction",)
        self._labels = [Column(label, name, name_column) for label in labels]
        self._label_places = [self._header.place(label) for label in labels]
        self._minutes = _minute_places(source, self._header)
        self.num_minutes = len(self._minutes)

    def functions(self) -> Iterator[tuple[str, NDArray[np.int64]]]:
        """Name and counts `(num_minutes,)` of each row."""
        for row in self._table:
            self._header.check_width(row)
            cells = [row[place] for place in self._minutes]
            if "".join(cells).isdigit() and "" not in cells and max(map(len, cells)) < 10:
                counts = np.fromiter(map(int, cells), np.int64, len(cells))
            else:
                counts = self._checked(cells)
            yield self._label(row), counts

    def _checked(self, cells: list[str]) -> NDArray[np.int64]:
        counts = np.zeros(len(cells), np.int64)
        for minute, cell in enumerate(cells):
            try:
                counts[minute] = invocations(cell)
            except ValueError as error:
                raise self._source.error(f"expected {error}", str(minute + 1), cell) from None
        return counts

    def _label(self, row: list[str]) -> str:
        labels = [row[place] for place in self._label_places]
        if "" in labels:
            for column in self._labels:
                parsed_cell(self._source, self._header, column, row)
        return "/".join(labels)


def _minute_places(source: TextSource, header: Header) -> list[int]:
    minutes = sorted(int(column) for column in header.names if column.isdigit())
    if not minutes:
        raise source.error("no minute columns; expected 1, 2, ... after the names")
    if minutes != list(range(1, len(minutes) + 1)):
        missing = next(m for m in range(1, len(minutes) + 2) if m not in minutes)
        raise source.error("the minute column is missing", str(missing))
    return [header.place(str(minute)) for minute in minutes]


def _sorted_counts(
    names: tuple[str, ...],
    num_minutes: int,
    minutes: list[NDArray[np.int32]],
    functions: list[NDArray[np.int32]],
    counts: list[NDArray[np.int64]],
) -> WindowCounts:
    minute = np.concatenate([np.empty(0, np.int32), *minutes])
    function = np.concatenate([np.empty(0, np.int32), *functions])
    count = np.concatenate([np.empty(0, np.int64), *counts])
    order = np.lexsort((function, minute))
    return WindowCounts(
        sources=names,
        window_s=MINUTE_S,
        num_windows=num_minutes,
        window=minute[order],
        source=function[order],
        count=count[order],
        law=np.full(len(order), GapLaw.AS_ASKED, np.int8),
        shape=np.zeros(len(order)),
        lengths={},
    )
