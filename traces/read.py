"""Rows of one trace, from one file or several, in order of time.

Several files are the successive parts of one trace, on one clock: day files of Functions 2019
follow each other, Azure LLM stamps carry their date, BurstGPT parts count on. ServeGen files are
the clients of one workload, side by side.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from traces.account import Account
from traces.detect import detect_format
from traces.errors import TraceError
from traces.ordering import DEFAULT_TOLERANCE_S, TimeOrder
from traces.registry import FORMATS
from traces.rows import TraceRow
from traces.text_source import TextSource
from traces.timestamps import TimestampClock
from traces.windows import MinuteGaps, WindowCounts, window_rows

FailedRows = Literal["drop", "keep"]


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How a trace is read.

    Args:
        format: Told by the first line if None.
        failed_rows: BurstGPT rows with 0 response tokens are failures: drop and count, or keep.
        tolerance_s: How far times may go back and still be sorted in.
        minute_gaps: How the counts of a minute are spread (Functions 2019; ServeGen windows
            without a gap law).
        seed: For the spreading of counts.
    """

    format: str | None = None
    failed_rows: FailedRows = "drop"
    tolerance_s: float = DEFAULT_TOLERANCE_S
    minute_gaps: MinuteGaps = "uniform"
    seed: int = 0


def read_trace(
    paths: Sequence[Path | str], options: ReadOptions | None = None, account: Account | None = None
) -> Iterator[TraceRow]:
    """All rows; `account` is filled while they are taken. Raises TraceError."""
    options, account = options or ReadOptions(), account or Account()
    chosen = trace_format(paths, options.format)
    counts = read_counts(paths, chosen)
    if counts is None:
        yield from kept_rows(paths, chosen, options, account)
        return
    yield from window_rows(counts, options.minute_gaps, options.seed, account)


def kept_rows(
    paths: Sequence[Path | str], chosen: str, options: ReadOptions, account: Account
) -> Iterator[TraceRow]:
    """Rows of a format that has one line per request, failures dropped if asked."""
    drop_failed = FORMATS[chosen].marks_failures and options.failed_rows == "drop"
    for row in _ordered_rows(paths, chosen, options):
        account.rows_read += 1
        if drop_failed and row.output_tokens == 0:
            account.failed_dropped += 1
        else:
            yield row


def trace_format(paths: Sequence[Path | str], override: str | None = None) -> str:
    """The format of all files, which must be the same."""
    if not paths:
        raise TraceError("no trace file was named")
    if override is not None:
        return override
    formats = [detect_format(path) for path in paths]
    for path, other in zip(paths, formats, strict=True):
        if other != formats[0]:
            raise TraceError(f"is in format {other}, but {paths[0]} is {formats[0]}", path)
    return formats[0]


def read_counts(paths: Sequence[Path | str], chosen: str) -> WindowCounts | None:
    """The counts of a format that has counts in place of arrivals; None for the others."""
    sources = [TextSource(path) for path in paths]
    read = FORMATS[chosen].counts
    return None if read is None else read(sources)


def _ordered_rows(
    paths: Sequence[Path | str], chosen: str, options: ReadOptions
) -> Iterator[TraceRow]:
    batches = FORMATS[chosen].batches
    assert batches is not None, "the format has rows, not counts"
    order, clock = TimeOrder(options.tolerance_s), TimestampClock()
    for path in paths:
        source = TextSource(path)
        yield from order.ordered(batches(source, clock), source)
    yield from order.rest()
