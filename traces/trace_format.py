"""Descriptors of trace formats; `registry` has those that there are."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from traces.rows import RowBatch
from traces.text_source import TextSource
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
        recognises: Returns whether a first line that is no header is in the format.
        marks_failures: Rows with 0 output tokens are failed requests.
        names_functions: Rows name functions; `cv_reading` may re-sample their arrivals.
    """

    columns: frozenset[str] = frozenset()
    batches: Callable[[TextSource, TimestampClock], Iterator[RowBatch]] | None = None
    counts: Callable[[Sequence[TextSource]], WindowCounts] | None = None
    recognises: Callable[[TextSource, str], bool] = _recognise_nothing
    marks_failures: bool = False
    names_functions: bool = False

    def __post_init__(self) -> None:
        if (self.batches is None) == (self.counts is None):
            raise ValueError("a trace format has either batches or counts")
