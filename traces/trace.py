"""A trace that is read twice: first for its rate and functions, then for its rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from traces.account import Account
from traces.read import ReadOptions, kept_rows, read_counts, settled_reading
from traces.report import TraceReport
from traces.rows import TraceRow
from traces.windows import window_rows


@dataclass(frozen=True, slots=True)
class Survey:
    """The content of a stretch of a trace.

    Args:
        num_rows: Rows in the stretch, without dropped failures.
        span_s: Seconds of the stretch that the trace covers: from the start of the stretch, or the
            first row of the trace if later, to its end, or the last row of the trace if earlier.
        sources: Sources with a row in the stretch, in the order of their first rows.
    """

    num_rows: int
    span_s: float
    sources: tuple[str, ...]

    @property
    def rate_rps(self) -> float:
        """Rows per second; 0 for a stretch without length."""
        return self.num_rows / self.span_s if self.span_s > 0 else 0.0


class Trace:
    """The files of a trace. Formats with counts are loaded once, other formats are streamed."""

    def __init__(
        self, paths: Sequence[Path | str], options: ReadOptions, report: TraceReport
    ) -> None:
        self._reading = settled_reading(paths, options, report)
        self.format = self._reading.format
        self.counts = read_counts(paths, self._reading.kind)
        self._paths = tuple(paths)
        self._options = options
        self._report = report

    @property
    def names_models(self) -> bool:
        """True if the names in the trace are those of models, not of functions or clients."""
        return self.counts is None and not self._reading.kind.names_functions

    @property
    def names_services(self) -> bool:
        """True if the names in the trace are those of services, not of models to deploy."""
        return self._reading.kind.names_services

    def thins_counts(self, factor: float) -> bool:
        """Return True if `rows` can drop arrivals before it spreads the counts."""
        uniform = self.counts is not None and self.counts.uniform
        return factor < 1.0 and uniform and self._options.minute_gaps == "uniform"

    def rows(self, account: Account, keep: float = 1.0) -> Iterator[TraceRow]:
        """Yield all rows in order of time, and count them in `account`.

        Args:
            keep: Probability of keeping an arrival; below 1 only if `thins_counts`.
        """
        options = self._options
        if self.counts is None:
            return kept_rows(self._paths, self._reading, options, account, self._report)
        return window_rows(self.counts, options.minute_gaps, options.seed, account, keep)

    def survey(self, start_s: float, until_s: float | None) -> Survey:
        """Read the stretch [start_s, until_s), or all from `start_s` on, and return its content.

        For a trace of counts: the windows that overlap the stretch.
        """
        if self.counts is not None:
            cut = self.counts.cut(start_s, until_s)
            return Survey(cut.num_arrivals, cut.span_s, cut.called())
        num, first_s, last_s = 0, None, start_s
        sources: dict[str, None] = {}
        for row in self.rows(Account()):
            if first_s is None:
                first_s = max(start_s, row.at_s)
            if row.at_s < start_s:
                continue
            if until_s is not None and row.at_s >= until_s:
                last_s = until_s
                break
            num, last_s = num + 1, row.at_s
            sources[row.source] = None
        span_s = 0.0 if first_s is None else last_s - first_s
        return Survey(num, span_s, tuple(sources))
