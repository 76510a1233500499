"""AlpaServe's re-sampling: a Gamma process replaces the arrivals of each model and window.

    absolute   rate = factor * count / window,  CV = cv             (its azure_v1, Functions 2019)
    fitted     rate = factor * fitted rate,     CV = cv * fitted CV (its azure_v2, Functions 2021)

"CV 8" can mean either: ServerlessLLM's text suggests the first, HydraServe's code does the second.
The fit is the maximum-likelihood Gamma of the window's gaps + 1 us. A window with 2 arrivals or
fewer yields no arrivals, so under `fitted` rarely called models nearly vanish, as in AlpaServe. The
fitted rate is 1 / mean gap, at most (n - 1) / n off AlpaServe's shape * scale.

One difference: the process is stationary inside its window (see `renewal`), so a large CV does not
raise the rate. In a short window the arrivals do not show the CV that they are drawn with.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import assert_never

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from traces.account import Account
from traces.assignment import Assign
from traces.errors import TraceError
from traces.gamma_fit import fit_gamma
from traces.renewal import gamma_arrivals, scaled_times
from traces.rows import TraceRow
from traces.seeding import generator
from traces.spec import CvReading
from traces.windows import WindowCounts

ABSOLUTE_WINDOW_S, FITTED_WINDOW_S = 60.0, 600.0  # AlpaServe v1; HydraServe's default
DEFAULT_CV = 8.0
_GAP_FLOOR_S = 1e-6  # added by AlpaServe, so that equal times can be fitted
_MAX_FIT_FACTOR = 5.0  # a fitted rate above 5 times the empirical one is replaced by it


@dataclass(frozen=True, slots=True)
class Resampling:
    """The settings of a re-sampling.

    Args:
        reading: `absolute` or `fitted`, see the module.
        factor: Factor on the rate.
    """

    reading: CvReading
    cv: float
    window_s: float
    factor: float


@dataclass(frozen=True, slots=True)
class _Window:
    """The arrivals of each model in a window: their number, and their times if known."""

    start_s: float
    counts: dict[str, int]
    times_s: dict[str, NDArray[np.float64]]


def resampled_rows(
    rows: Iterator[TraceRow], how: Resampling, assign: Assign, seed: int, account: Account
) -> Iterator[TraceRow]:
    """Yield arrivals that replace `rows`; one window of rows is in memory at a time."""
    windows = _windows_of_rows(rows, how.window_s, assign, account)
    yield from _resampled(windows, how, seed, account)


def resampled_counts(
    counts: WindowCounts, how: Resampling, assign: Assign, seed: int, account: Account
) -> Iterator[TraceRow]:
    """Yield arrivals that replace counts, under `absolute`; no single count is spread first.

    Raises:
        TraceError: `how.window_s` is not a multiple of the counts' windows.
    """
    if how.window_s % counts.window_s:
        raise TraceError(f"window_s must be a multiple of {counts.window_s:g}, got {how.window_s}")
    windows = _windows_of_counts(counts, how.window_s, assign, account)
    return _resampled(windows, how, seed, account)


def _resampled(
    windows: Iterator[_Window], how: Resampling, seed: int, account: Account
) -> Iterator[TraceRow]:
    streams: dict[str, Generator] = {}
    for window in windows:
        arrivals: list[TraceRow] = []
        for model, count in window.counts.items():
            account.replaced += count
            if model not in streams:
                streams[model] = generator(seed, "resampling", model)
            times = _model_times(window, model, how, streams[model])
            arrivals += [TraceRow(window.start_s + at_s, model, None, None) for at_s in times]
        arrivals.sort(key=lambda row: row.at_s)
        for row in arrivals:
            account.generated += 1
            yield row


def _model_times(window: _Window, model: str, how: Resampling, rng: Generator) -> list[float]:
    """Return the times of a model's arrivals, in seconds from the start of the window."""
    rate, cv = window.counts[model] / how.window_s, how.cv
    match how.reading:
        case "absolute":
            pass
        case "fitted":
            times = window.times_s[model]
            if len(times) <= 2:
                return []
            fit = fit_gamma(np.diff(times) + _GAP_FLOOR_S)
            rate = fit.rate if fit.rate <= _MAX_FIT_FACTOR * rate else rate
            cv = how.cv * fit.cv
        case _:
            assert_never(how.reading)
    return list(scaled_times(gamma_arrivals(cv, rng), rate * how.factor, how.window_s))


def _windows_of_rows(
    rows: Iterator[TraceRow], window_s: float, assign: Assign, account: Account
) -> Iterator[_Window]:
    index = pending = 0
    times: dict[str, list[float]] = {}
    try:
        for row in rows:
            pending += 1
            if row.at_s >= (index + 1) * window_s:
                if times:
                    pending = 1
                    yield _window(index, window_s, times)
                index, times = int(row.at_s // window_s), {}
            times.setdefault(assign(row.source), []).append(row.at_s - index * window_s)
        pending = 0
        if times:
            yield _window(index, window_s, times)
    finally:
        account.after_end += (
            pending  # read, but the reader stopped before their window was complete
        )


def _window(index: int, window_s: float, times: dict[str, list[float]]) -> _Window:
    arrays = {model: np.array(each) for model, each in times.items()}
    return _Window(index * window_s, {model: len(each) for model, each in times.items()}, arrays)


def _windows_of_counts(
    counts: WindowCounts, window_s: float, assign: Assign, account: Account
) -> Iterator[_Window]:
    step = round(window_s / counts.window_s)
    for window in range(0, counts.num_windows, step):
        low, high = np.searchsorted(counts.window, [window, window + step]).tolist()
        called: dict[str, int] = {}
        for source, count in zip(
            counts.source[low:high].tolist(), counts.count[low:high].tolist(), strict=True
        ):
            model = assign(counts.sources[source])
            called[model] = called.get(model, 0) + count
        account.rows_read += int(counts.count[low:high].sum())
        yield _Window(window * counts.window_s, called, {})
