"""The figures of one run that fit on a page."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import floor, fsum, isnan


@dataclass(frozen=True, slots=True)
class Distribution:
    """Of a number of samples; all None when there are none."""

    count: int
    mean: float | None = None
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    max: float | None = None


def distribution(samples: Iterable[float]) -> Distribution:
    """Mean and quantiles without NaN. Quantiles interpolate between neighbours (Hyndman-Fan 7)."""
    values = sorted(value for value in samples if not isnan(value))
    if not values:
        return Distribution(0)
    return Distribution(
        len(values),
        fsum(values) / len(values),
        _quantile(values, 0.5),
        _quantile(values, 0.95),
        _quantile(values, 0.99),
        values[-1],
    )


def _quantile(values: list[float], q: float) -> float:
    """Of sorted values."""
    position = q * (len(values) - 1)
    below = floor(position)
    if below + 1 >= len(values):
        return values[-1]
    return values[below] + (position - below) * (values[below + 1] - values[below])


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run did. Latencies of completed requests, startup latency of all that were asked for:
    a request that timed out counts with the time it had waited."""

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
    loads: Mapping[str, int]  # finished, by the tier they came from
    failed_loads: int
    warm_starts: int
    evictions: Mapping[str, int]  # by tier
    gpu_busy_s: float
    gpu_loading_s: float
    gpu_idle_s: float  # with or without an instance, but nothing to do
    ended_at_s: float
