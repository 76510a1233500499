"""A trace that is read more than once: for its rate and its functions first, for its rows then."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from traces.account import Account
from traces.read import ReadOptions, kept_rows, read_counts, trace_format
from traces.rows import TraceRow
from traces.windows import window_rows


@dataclass(frozen=True, slots=True)
class Survey:
    """What a stretch of a trace holds.

    Args:
        num_rows: Rows in it, dropped failures not counted.
        span_s: From the start asked for to the last row (or to the end asked for, if earlier).
        sources: Those that have a row in it, in the order of their first.
    """

    num_rows: int
    span_s: float
    sources: tuple[str, ...]

    @property
    def rate_rps(self) -> float:
        return self.num_rows / self.span_s if self.span_s > 0 else 0.0


class Trace:
    """The files of one trace. Formats that hold counts are loaded once, the others streamed."""

    def __init__(self, paths: Sequence[Path | str], options: ReadOptions) -> None:
        self.format = trace_format(paths, options.format)
        self.counts = read_counts(paths, self.format)
        self._paths = tuple(paths)
        self._options = options

    def thins_counts(self, factor: float) -> bool:
        """Whether `rows` can thin by `factor` itself, without spelling out what it drops."""
        uniform = self.counts is not None and self.counts.uniform
        return factor < 1.0 and uniform and self._options.minute_gaps == "uniform"

    def rows(self, account: Account, keep: float = 1.0) -> Iterator[TraceRow]:
        """All rows, in order; `account` learns what was read and dropped."""
        options = self._options
        if self.counts is None:
            return kept_rows(self._paths, self.format, options, account)
        return window_rows(self.counts, options.minute_gaps, options.seed, account, keep)

    def survey(self, start_s: float, until_s: float | None) -> Survey:
        """One pass over the stretch [start_s, until_s), or over all from start_s on.

        Of a trace of counts, the whole windows that overlap the stretch.
        """
        if self.counts is not None:
            cut = self.counts.cut(start_s, until_s)
            return Survey(cut.num_arrivals, cut.span_s, cut.called())
        num, last_s = 0, start_s
        sources: dict[str, None] = {}
        for row in self.rows(Account()):
            if row.at_s < start_s:
                continue
            if until_s is not None and row.at_s >= until_s:
                last_s = until_s
                break
            num, last_s = num + 1, row.at_s
            sources[row.source] = None
        return Survey(num, last_s - start_s, tuple(sources))
