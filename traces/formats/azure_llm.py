"""Azure LLM inference traces, 2023 and 2024 (Azure/AzurePublicDataset, CC BY 4.0).

Columns TIMESTAMP, ContextTokens, GeneratedTokens; other columns (NumImages of the 2025 multimodal
trace) are passed over. The clock is zero at the first row of the first file. No model is named.
"""

from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Any

from traces.cells import tokens, tokens_column
from traces.rows import RowBatch, TraceRow
from traces.tables import Column, table_batches
from traces.text_source import TextSource
from traces.timestamps import TimestampClock
from traces.trace_format import TraceFormat

COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")


def batches(source: TextSource, clock: TimestampClock) -> Iterator[RowBatch]:
    """Rows in file order. Raises TraceError at the first cell that cannot be read."""
    columns = (
        Column("TIMESTAMP", clock.seconds, clock.seconds_column),
        Column("ContextTokens", tokens, tokens_column),
        Column("GeneratedTokens", tokens, tokens_column),
    )
    return table_batches(source, columns, _rows)


def _rows(values: Sequence[Sequence[Any]]) -> list[TraceRow]:
    times, inputs, outputs = values
    return list(map(TraceRow, times, repeat(""), inputs, outputs))


FORMAT = TraceFormat(frozenset(COLUMNS), batches, shares_columns=True)
