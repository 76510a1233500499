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
from traces.detect import TraceFormat, detect_format, first_names
from traces.errors import TraceError
from traces.formats import (
    azure_functions_2019,
    azure_functions_2021,
    azure_llm,
    burstgpt,
    mooncake,
    servegen,
)
from traces.formats.table import Columns, guessed_columns
from traces.ordering import DEFAULT_TOLERANCE_S, TimeOrder
from traces.record_format import RecordFormat
from traces.record_formats import record_format
from traces.records import RecordTimes, record_batches
from traces.report import TraceReport
from traces.rows import RowBatch, TraceRow
from traces.text_source import TextSource
from traces.time_reading import settled_unit
from traces.time_unit import PER_SECOND, TimeUnit, epoch_unit
from traces.timestamps import TimestampClock
from traces.windows import MinuteGaps, WindowCounts, window_rows

_NUM_COMMON_FIELDS = len(mooncake.COLUMNS)
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

    format: TraceFormat | None = None
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

    format: TraceFormat
    unit: TimeUnit | None
    described: RecordFormat | None


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
    counts = read_counts(paths, reading.format)
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
    chosen: TraceFormat
    chosen = "table" if options.columns is not None else trace_format(paths, options.format)
    described = record_format(chosen)
    if chosen == "table":
        columns = options.columns or _guessed_columns(paths[0])
        described, report.columns = columns.format, columns.named
    usual = _usual_unit(chosen) if described is None else described.unit
    if options.time_unit is not None and usual is None:
        raise TraceError(
            f"the times of format {chosen} are dates or windows, not numbers: remove time_unit",
            paths[0],
        )
    unit = options.time_unit or usual
    if options.time_unit is None and usual is not None:
        raw, path = Reading(chosen, "s", described), paths[0]
        if described is None or not described.unit_is_named:
            unit = settled_unit(
                usual,
                lambda: _batches(TextSource(path), raw, TimestampClock()),
                path,
                report,
                # Mooncake's own files have hash_ids, exported ones a model; guidellm's are in s.
                is_common=chosen == "mooncake" and len(first_names(path)) == _NUM_COMMON_FIELDS,
            )
    report.format, report.time_unit = chosen, unit
    if chosen == "table" and options.columns is None:
        named = ", ".join(f"{use}: {column}" for use, column in report.columns.items())
        report.note(f"{paths[0]}: read as a table with columns {{{named}}}, times in {unit}")
    _note_prefixes(paths[0], report)
    return Reading(chosen, unit, described)


def _guessed_columns(path: Path | str) -> Columns:
    columns = guessed_columns(first_names(path))
    if columns is None:
        raise TraceError("name the columns of the table: workload.columns={time: ..., ...}", path)
    return columns


def _note_prefixes(path: Path | str, report: TraceReport) -> None:
    names = first_names(path)
    for name in ("hash_ids", "input_tok_ids"):
        if name in names:
            report.note(f"{path}: {name} are passed over: the reuse of prefixes is not modelled")


def _usual_unit(chosen: TraceFormat) -> TimeUnit | None:
    """Return the unit of a format's times; None for dates and for counts per window."""
    match chosen:
        case "mooncake":
            return "ms"
        case "burstgpt" | "azure_functions_2021":
            return "s"
        case _:
            return None


def kept_rows(
    paths: Sequence[Path | str],
    reading: Reading,
    options: ReadOptions,
    account: Account,
    report: TraceReport,
) -> Iterator[TraceRow]:
    """Yield the rows of a format with a line per request, without failures if so asked."""
    drop_failed = reading.format == "burstgpt" and options.failed_rows == "drop"
    ordered = _ordered_rows(paths, reading, options, report)
    for row in _from_zero(ordered, options.keeps_clock, report):
        account.rows_read += 1
        if drop_failed and row.output_tokens == 0:
            account.failed_dropped += 1
        else:
            yield row


def trace_format(paths: Sequence[Path | str], override: TraceFormat | None = None) -> TraceFormat:
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


def read_counts(paths: Sequence[Path | str], chosen: TraceFormat) -> WindowCounts | None:
    """Return the counts of a format that has counts, not arrivals; None for other formats."""
    sources = [TextSource(path) for path in paths]
    if chosen == "azure_functions_2019":
        return azure_functions_2019.read_counts(sources)
    if chosen == "servegen":
        return servegen.read_counts(sources)
    return None


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
    order, clock = TimeOrder(options.tolerance_s), TimestampClock()
    for path in paths:
        source = TextSource(path)
        yield from order.ordered(_batches(source, reading, clock), source)
    if clock.mixes_zones:
        report.note(f"{paths[0]}: some times have a zone and others none; those are read as UTC")
    yield from order.rest()


def _batches(source: TextSource, reading: Reading, clock: TimestampClock) -> Iterator[RowBatch]:
    per_second = 1.0 if reading.unit is None else PER_SECOND[reading.unit]
    if reading.described is not None:
        return record_batches(source, reading.described, RecordTimes(per_second, clock))
    match reading.format:
        case "azure_llm":
            return azure_llm.batches(source, clock)
        case "azure_functions_2021":
            return azure_functions_2021.batches(source, per_second)
        case "burstgpt":
            return burstgpt.batches(source, per_second)
        case "mooncake":
            return mooncake.batches(source, per_second)
        case _:
            raise AssertionError(f"{reading.format} holds counts, not rows")
