"""The summary of a trace that `python -m traces describe` prints."""

from collections.abc import Iterable
from dataclasses import dataclass

from traces.errors import TraceError
from traces.popularity import top_share
from traces.rows import TraceRow
from traces.statistics import (
    CORRELATION_LAGS,
    DISPERSION_WINDOWS_S,
    QUANTILES,
    LengthCounts,
    TraceStatistics,
    autocorrelation,
    gathered,
    index_of_dispersion,
)


@dataclass(frozen=True, slots=True)
class Dispersion:
    """Index of dispersion of the counts per window; None if the trace is too short."""

    window_s: int
    value: float | None


@dataclass(frozen=True, slots=True)
class Correlation:
    """Autocorrelation of the counts per minute."""

    lag: int
    value: float | None


@dataclass(frozen=True, slots=True)
class Quantile:
    """A quantile of a distribution."""

    probability: float
    value: float


@dataclass(frozen=True, slots=True)
class LengthSummary:
    """The distribution of a trace's lengths in tokens."""

    mean: float
    quantiles: tuple[Quantile, ...]
    largest: int


@dataclass(frozen=True, slots=True)
class TraceSummary:
    """The numbers that describe a trace. Gaps are in seconds, lengths in tokens."""

    num_rows: int
    span_s: float
    rate_rps: float
    peak_minute_rps: float | None
    gap_cv: float | None
    gap_quantiles_s: tuple[Quantile, ...]
    dispersion: tuple[Dispersion, ...]
    minute_correlation: tuple[Correlation, ...]
    empty_10s_fraction: float | None
    num_sources: int
    top_1_percent_share: float | None
    top_10_percent_share: float | None
    input_tokens: LengthSummary | None
    output_tokens: LengthSummary | None


def summary_of(rows: Iterable[TraceRow]) -> TraceSummary:
    """Return the summary of `rows`.

    Raises:
        TraceError: There are no rows.
    """
    return summary(gathered(rows))


def summary(found: TraceStatistics) -> TraceSummary:
    """Return the summary of gathered statistics.

    Raises:
        TraceError: The trace has no rows.
    """
    if not found.num_rows:
        raise TraceError("the trace has no rows")
    seconds, gaps = found.seconds, found.gaps
    minutes, tens = seconds.per_window(60), seconds.per_window(10)
    named = len(found.calls) > 1 or "" not in found.calls
    calls = list(found.calls.values())
    return TraceSummary(
        num_rows=found.num_rows,
        span_s=seconds.span_s,
        rate_rps=found.num_rows / seconds.span_s if seconds.span_s else 0.0,
        peak_minute_rps=float(minutes.max()) / 60.0 if len(minutes) else None,
        gap_cv=gaps.cv,
        gap_quantiles_s=tuple(Quantile(q, gaps.quantile_s(q)) for q in QUANTILES if gaps.num),
        dispersion=tuple(
            Dispersion(window_s, index_of_dispersion(seconds.per_window(window_s)))
            for window_s in DISPERSION_WINDOWS_S
        ),
        minute_correlation=tuple(
            Correlation(lag, autocorrelation(minutes, lag)) for lag in CORRELATION_LAGS
        ),
        empty_10s_fraction=float((tens == 0).mean()) if len(tens) else None,
        num_sources=len(calls) if named else 0,
        top_1_percent_share=top_share(calls, 0.01) if named else None,
        top_10_percent_share=top_share(calls, 0.1) if named else None,
        input_tokens=_lengths(found.inputs),
        output_tokens=_lengths(found.outputs),
    )


def _lengths(counts: LengthCounts) -> LengthSummary | None:
    if not counts.num:
        return None
    quantiles = tuple(Quantile(q, counts.quantile(q)) for q in QUANTILES)
    return LengthSummary(counts.mean, quantiles, counts.largest)
