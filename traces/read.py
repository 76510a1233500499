"""The rows of a trace in order of time, from one file or several.

Several files are successive parts of a trace on one clock: the day files of Functions 2019 follow
each other, Azure LLM stamps have a date, BurstGPT parts continue to count. ServeGen files are the
clients of one workload, at the same time.
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
    """Options of reading a trace.

    Args:
        format: Format of the files; None: as their first lines show.
        failed_rows: Drop (and count) or keep BurstGPT rows with 0 response tokens.
        tolerance_s: Seconds by which a row may be earlier than rows before it.
        minute_gaps: Placement of the arrivals of a count inside its window (Functions 2019, and
            ServeGen windows without a gap law).
        seed: Seed of that placement.
    """

    format: str | None = None
    failed_rows: FailedRows = "drop"
    tolerance_s: float = DEFAULT_TOLERANCE_S
    minute_gaps: MinuteGaps = "uniform"
    seed: int = 0


def read_trace(
    paths: Sequence[Path | str], options: ReadOptions | None = None, account: Account | None = None
) -> Iterator[TraceRow]:
    """Yield all rows in order of time, and count them in `account`.

    Raises:
        TraceError: A file is missing, or has an unknown format or a wrong cell.
    """
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
    """Yield the rows of a format with a line per request, without failures if so asked."""
    drop_failed = FORMATS[chosen].marks_failures and options.failed_rows == "drop"
    for row in _ordered_rows(paths, chosen, options):
        account.rows_read += 1
        if drop_failed and row.output_tokens == 0:
            account.failed_dropped += 1
        else:
            yield row


def trace_format(paths: Sequence[Path | str], override: str | None = None) -> str:
    """Return the format of the files.

    Raises:
        TraceError: There are no files, or they differ in format.
    """
    if not paths:
        raise TraceError("no trace file is named; give at least one path")
    if override is not None:
        return override
    formats = [detect_format(path) for path in paths]
    for path, other in zip(paths, formats, strict=True):
        if other != formats[0]:
            raise TraceError(f"is in format {other}, but {paths[0]} is {formats[0]}", path)
    return formats[0]


def read_counts(paths: Sequence[Path | str], chosen: str) -> WindowCounts | None:
    """Return the counts of a format that has counts, not arrivals; None for other formats."""
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
