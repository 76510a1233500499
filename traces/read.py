"""The rows of a trace in order of time, from one file or several.

Several files are successive parts of a trace on one clock: the day files of Functions 2019 follow
each other, Azure LLM stamps have a date, BurstGPT parts continue to count. ServeGen files are the
clients of one workload, at the same time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal

from traces.account import Account
from traces.detect import detect_format
from traces.errors import TraceError
from traces.formats import table
from traces.formats.table import Columns
from traces.ordering import DEFAULT_TOLERANCE_S, TimeOrder
from traces.registry import FORMATS
from traces.report import TraceReport
from traces.rows import RowBatch, TraceRow
from traces.text_source import TextSource
from traces.time_reading import settled_unit
from traces.time_unit import PER_SECOND, TimeUnit, epoch_unit
from traces.timestamps import TimestampClock
from traces.trace_format import TraceFormat
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
        time_unit: Unit of numeric times; None: that of the format, or of stamps since 1970.
        columns: Columns of a table of any other format.
        keeps_clock: Keep times that are no stamps since 1970. Otherwise zero is the earliest row.
    """

    format: str | None = None
    failed_rows: FailedRows = "drop"
    tolerance_s: float = DEFAULT_TOLERANCE_S
    minute_gaps: MinuteGaps = "uniform"
    seed: int = 0
    time_unit: TimeUnit | None = None
    columns: Columns | None = None
    keeps_clock: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """The format of the files of a trace, and the unit of their numeric times (None: dates)."""

    format: str
    kind: TraceFormat
    unit: TimeUnit | None


def read_trace(
    paths: Sequence[Path | str],
    options: ReadOptions | None = None,
    account: Account | None = None,
    report: TraceReport | None = None,
) -> Iterator[TraceRow]:
    """Yield all rows in order of time, count them in `account` and describe them in `report`.

    Raises:
        TraceError: A file is missing, or has an unknown format or a wrong cell.
    """
    options, account = options or ReadOptions(), account or Account()
    report = report or TraceReport()
    reading = settled_reading(paths, options, report)
    counts = read_counts(paths, reading.kind)
    if counts is None:
        yield from kept_rows(paths, reading, options, account, report)
        return
    yield from window_rows(counts, options.minute_gaps, options.seed, account)


def settled_reading(
    paths: Sequence[Path | str], options: ReadOptions, report: TraceReport
) -> Reading:
    """Return how the files are read, after a look at their first rows.

    Raises:
        TraceError: There are no files, they differ in format, or `time_unit` does not apply.
    """
    if not paths:
        raise TraceError("no trace file is named; give at least one path")
    chosen = table.NAME if options.columns is not None else trace_format(paths, options.format)
    kind = FORMATS[chosen]
    if chosen == table.NAME:
        columns = options.columns or table.columns_of_file(TextSource(paths[0]))
        kind, report.columns = columns.format, columns.named
    if options.time_unit is not None and kind.unit is None:
        raise TraceError(
            f"the times of format {chosen} are dates or windows, not numbers: remove time_unit",
            paths[0],
        )
    unit = options.time_unit or _unit_of_files(paths[0], kind, report)
    report.format, report.time_unit = chosen, unit
    if chosen == table.NAME and options.columns is None:
        named = ", ".join(f"{use}: {column}" for use, column in report.columns.items())
        report.note(f"{paths[0]}: read as a table with columns {{{named}}}, times in {unit}")
    _note_prefixes(paths[0], report)
    return Reading(chosen, kind, unit)


def _unit_of_files(path: Path | str, kind: TraceFormat, report: TraceReport) -> TimeUnit | None:
    """Return the unit of a format's times, unless the stamps of its first file show another."""
    if kind.unit is None or (kind.record is not None and kind.record.unit_is_named):
        return kind.unit
    # Mooncake's own files have hash_ids, exported ones a model; guidellm's are in s.
    is_common = kind.shares_columns and len(TextSource(path).first_names()) == len(kind.columns)
    return settled_unit(
        kind.unit,
        lambda: _batches(TextSource(path), kind, TimestampClock()),
        path,
        report,
        is_common=is_common,
    )


def _note_prefixes(path: Path | str, report: TraceReport) -> None:
    try:
        names = TextSource(path).first_names()
    except TraceError:
        return  # an installed format may have a first line of another form
    for name in ("hash_ids", "input_tok_ids"):
        if name in names:
            report.note(f"{path}: {name} are passed over: the reuse of prefixes is not modelled")


def kept_rows(
    paths: Sequence[Path | str],
    reading: Reading,
    options: ReadOptions,
    account: Account,
    report: TraceReport,
) -> Iterator[TraceRow]:
    """Yield the rows of a format with a line per request, without failures if so asked."""
    drop_failed = reading.kind.marks_failures and options.failed_rows == "drop"
    ordered = _ordered_rows(paths, reading, options, report)
    for row in _from_zero(ordered, options.keeps_clock, report):
        account.rows_read += 1
        if drop_failed and row.output_tokens == 0:
            account.failed_dropped += 1
        else:
            yield row


def trace_format(paths: Sequence[Path | str], override: str | None = None) -> str:
    """Return the format of the files.

    Raises:
        TraceError: The files differ in format.
    """
    if override is not None:
        return override
    formats = [detect_format(path) for path in paths]
    for path, other in zip(paths, formats, strict=True):
        if other != formats[0]:
            raise TraceError(f"is in format {other}, but {paths[0]} is {formats[0]}", path)
    return formats[0]


def read_counts(paths: Sequence[Path | str], kind: TraceFormat) -> WindowCounts | None:
    """Return the counts of a format that has counts, not arrivals; None for other formats."""
    sources = [TextSource(path) for path in paths]
    return None if kind.counts is None else kind.counts(sources)


def _from_zero(
    rows: Iterator[TraceRow], keeps_clock: bool, report: TraceReport
) -> Iterator[TraceRow]:
    """Yield ordered rows with the time of the first one as zero, unless the clock is kept."""
    first = next(rows, None)
    if first is None:
        return
    report.begins_at_s = first.at_s
    zero_s = 0.0 if keeps_clock and epoch_unit(first.at_s) is None else first.at_s
    if zero_s == 0:
        yield first
        yield from rows
        return
    for row in chain((first,), rows):
        yield TraceRow(row.at_s - zero_s, row.source, row.input_tokens, row.output_tokens)


def _ordered_rows(
    paths: Sequence[Path | str], reading: Reading, options: ReadOptions, report: TraceReport
) -> Iterator[TraceRow]:
    per_second = 1.0 if reading.unit is None else PER_SECOND[reading.unit]
    order, clock = TimeOrder(options.tolerance_s), TimestampClock(per_second)
    for path in paths:
        source = TextSource(path)
        yield from order.ordered(_batches(source, reading.kind, clock), source)
    if clock.mixes_zones:
        report.note(f"{paths[0]}: some times have a zone and others none; those are read as UTC")
    yield from order.rest()


def _batches(source: TextSource, kind: TraceFormat, clock: TimestampClock) -> Iterator[RowBatch]:
    assert kind.batches is not None, "the format has rows, not counts"
    return kind.batches(source, clock)
