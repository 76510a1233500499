"""Azure Functions 2021, two weeks (AzureFunctionsInvocationTraceForTwoWeeksJan2021, CC BY 4.0).

Columns app, func, end_timestamp, duration, the last two in seconds. A request arrives at
end - duration; one that began before the trace did (start < 0) counts at 0. `func` is unique only
inside its app, so a source is `app/func` (AlpaServe keys by `func` alone).
"""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import repeat
from typing import Any

from traces.cells import name, name_column, seconds, seconds_column
from traces.rows import RowBatch, TraceRow
from traces.tables import Column, table_batches
from traces.text_source import TextSource
from traces.timestamps import TimestampClock
from traces.trace_format import TraceFormat

COLUMNS = ("app", "func", "end_timestamp", "duration")


def batches(source: TextSource, clock: TimestampClock) -> Iterator[RowBatch]:
    """Rows in file order, without lengths. Raises TraceError at a cell that cannot be read."""
    columns = (
        Column("app", name, name_column),
        Column("func", name, name_column),
        Column("end_timestamp", seconds, seconds_column),
        Column("duration", seconds, seconds_column),
    )
    return table_batches(source, columns, partial(_rows, clock.per_second))


def _rows(per_second: float, values: Sequence[Sequence[Any]]) -> list[TraceRow]:
    apps, functions, ends, durations = values
    labels = [f"{app}/{function}" for app, function in zip(apps, functions, strict=True)]
    starts = [
        max(0.0, end - spent) / per_second for end, spent in zip(ends, durations, strict=True)
    ]
    return list(map(TraceRow, starts, labels, repeat(None), repeat(None)))


FORMAT = TraceFormat(frozenset(COLUMNS), batches, names_functions=True, unit="s")
