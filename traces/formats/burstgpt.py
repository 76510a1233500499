"""BurstGPT v1.2 and v2.0, all three parts (HPMLL/BurstGPT, CC BY 4.0).

Columns by name, since part 3 inserts `Session ID,Elapsed time`. Timestamp is in seconds, zero at
local midnight of day 1, mostly whole: jitter it before measuring burstiness below a second. The
source is the column Model (ChatGPT or GPT-4). A failed request has 0 response tokens.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from traces.cells import name, name_column, seconds, seconds_column, tokens, tokens_column
from traces.rows import RowBatch, TraceRow
from traces.tables import Column, table_batches
from traces.text_source import TextSource
from traces.timestamps import TimestampClock
from traces.trace_format import TraceFormat

COLUMNS = ("Timestamp", "Model", "Request tokens", "Response tokens")


def batches(source: TextSource, clock: TimestampClock) -> Iterator[RowBatch]:
    """Rows in file order, failed ones with `output_tokens` 0."""
    columns = (
        Column("Timestamp", seconds, seconds_column),
        Column("Model", name, name_column),
        Column("Request tokens", tokens, tokens_column),
        Column("Response tokens", tokens, tokens_column),
    )
    return table_batches(source, columns, partial(_rows, clock.per_second))


def _rows(per_second: float, values: Sequence[Sequence[Any]]) -> list[TraceRow]:
    times = [time / per_second for time in values[0]]
    return list(map(TraceRow, times, *values[1:]))


FORMAT = TraceFormat(
    frozenset(COLUMNS), batches, marks_failures=True, names_services=True, unit="s"
)
