"""The summary of a run: counts, latency distributions and GPU time."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import floor, fsum, isnan


@dataclass(frozen=True, slots=True)
class Distribution:
    """The mean, quantiles and maximum of `count` samples; all None if there are none."""

    count: int
    mean: float | None = None
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    max: float | None = None


def distribution(samples: Iterable[float]) -> Distribution:
    """Return the distribution of the samples that are not NaN.

    Quantiles interpolate linearly between neighbours (Hyndman and Fan, type 7).
    """
    values = sorted(value for value in samples if not isnan(value))
    if not values:
        return Distribution(0)
    return Distribution(
        count=len(values),
        mean=fsum(values) / len(values),
        p50=_quantile(values, 0.5),
        p95=_quantile(values, 0.95),
        p99=_quantile(values, 0.99),
        max=values[-1],
    )


def _quantile(values: list[float], q: float) -> float:
    """Return the quantile `q` of sorted values."""
    position = q * (len(values) - 1)
    below = floor(position)
    if below + 1 >= len(values):
        return values[-1]
    return values[below] + (position - below) * (values[below + 1] - values[below])


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of one run.

    `ttft_s` covers the requests that finished, `pause_s` all that ended. `startup_latency_s` covers
    the requests that started or timed out; a time-out counts with the time that it waited.
    """

    requests: int
    completed: int
    rejected: int
    timed_out: int
    cancelled: int
    startup_latency_s: Distribution
    ttft_s: Distribution
    pause_s: Distribution
    migrations: int
    failed_migrations: int
    preemptions: int
    lost_tokens: int
    restarts: int
    output_tokens: int
    loads: Mapping[str, int]  # finished loads by source tier
    failed_loads: int
    warm_starts: int
    evictions: Mapping[str, int]  # evicted copies by tier
    gpu_busy_s: float
    gpu_loading_s: float
    gpu_idle_s: float  # with or without an instance, but no request and no load
    ended_at_s: float
