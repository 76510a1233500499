"""Descriptors of trace formats; `registry` has those that there are."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from traces.record_format import RecordFormat
from traces.rows import RowBatch
from traces.text_source import TextSource
from traces.time_unit import TimeUnit
from traces.timestamps import TimestampClock
from traces.windows import WindowCounts


def _recognise_nothing(source: TextSource, line: str) -> bool:
    """Leave the recognition to the columns."""
    return False


@dataclass(frozen=True, slots=True)
class TraceFormat:
    """A trace format to be registered: entry point group `sllm.traces`.

    Give either `batches`, for a format with a line per request, or `counts`.

    Args:
        columns: Columns that the header of each file has; empty if files have no header.
        batches: Reads the rows of one file in file order. The clock is shared by all files.
        counts: Reads all files as counts per window.
        recognises: Whether a first line, without a header, is in the format.
        unit: Unit of numeric times; `batches` divides by the clock's `per_second`. None: times are
            in seconds, dates or windows.
        record: Names of the fields, for a format that is read by them alone (`records.described`).
        shares_columns: Other tools use the same columns, for times in another unit, or for dates
            where this format has numbers.
        names_services: Rows name services such as ChatGPT, not models to deploy.
        marks_failures: Rows with 0 output tokens are failed requests.
        names_functions: Rows name functions, whose arrivals may be re-sampled (`cv_reading`).
    """

    columns: frozenset[str] = frozenset()
    batches: Callable[[TextSource, TimestampClock], Iterator[RowBatch]] | None = None
    counts: Callable[[Sequence[TextSource]], WindowCounts] | None = None
    recognises: Callable[[TextSource, str], bool] = _recognise_nothing
    unit: TimeUnit | None = None
    record: RecordFormat | None = None
    shares_columns: bool = False
    names_services: bool = False
    marks_failures: bool = False
    names_functions: bool = False

    def __post_init__(self) -> None:
        if (self.batches is None) == (self.counts is None):
            raise ValueError("a trace format has either batches or counts")
