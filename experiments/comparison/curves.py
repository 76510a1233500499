"""Cumulative distributions of startup latency and of the time to the first token.

A point is the share of all requests that have started within a latency. A request that never starts
(timed out, rejected, cancelled) counts in the total, so a curve ends below 1 by the share of such
requests.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from experiments.comparison.results import PolicyResult
from experiments.simulation.run_folder import REQUESTS

MAX_POINTS = 2000  # more than the resolution of any picture


@dataclass(frozen=True, slots=True)
class Curve:
    """A CDF: points with rising latencies and shares.

    Attributes:
        latency_s: Startup latencies; 0 for a request that starts on a warm instance at once.
        shares: Share of all requests that start within each latency.
        never_started: Share of requests that never start.
    """

    label: str
    latency_s: tuple[float, ...]
    shares: tuple[float, ...]
    never_started: float


def startup_curve(result: PolicyResult, until: str = "started_at_s") -> Curve:
    """Return the curve of all requests of a policy, over all its seeds.

    Args:
        until: Column of the end of the wait; `first_token_at_s`: the time to the first token.
    """
    import numpy as np
    import pyarrow.parquet as pq

    columns = ["arrived_at_s", until]
    tables = [pq.read_table(c.cell.folder / REQUESTS, columns=columns) for c in result.cells]
    waits = [table[until].to_numpy() - table["arrived_at_s"].to_numpy() for table in tables]
    latency_s = np.concatenate(waits)
    total = len(latency_s)
    started_s = np.sort(latency_s[~np.isnan(latency_s)])
    if not len(started_s):
        return Curve(result.label, (), (), 1.0)
    num = min(len(started_s), MAX_POINTS)
    ranks = np.unique(np.linspace(0, len(started_s) - 1, num).round().astype(int))
    return Curve(
        result.label,
        tuple(started_s[ranks].tolist()),
        tuple(((ranks + 1) / total).tolist()),
        1 - len(started_s) / total,
    )


def distance(one: Curve, other: Curve) -> float:
    """Return the largest vertical distance of two curves (Kolmogorov-Smirnov), in [0, 1]."""
    at_s = sorted({*one.latency_s, *other.latency_s})
    return max((abs(_share(one, s) - _share(other, s)) for s in at_s), default=0.0)


def _share(curve: Curve, latency_s: float) -> float:
    below = bisect_right(curve.latency_s, latency_s)
    return curve.shares[below - 1] if below else 0.0


def left_edge_s(curves: Sequence[Curve]) -> float:
    """Return the left edge of a logarithmic axis: a power of ten below nearly all waits over 0."""
    positive = sorted(s for curve in curves for s in curve.latency_s if s > 0)
    if not positive:
        return 0.01
    low_s, edge_s = positive[len(positive) // 100], 10.0
    while edge_s > low_s and edge_s > 1e-3:
        edge_s /= 10
    return edge_s


def right_edge_s(curves: Sequence[Curve]) -> float:
    """Return the right edge of the axis: beyond the longest wait, a decade from the left edge."""
    longest_s = max((curve.latency_s[-1] for curve in curves if curve.latency_s), default=0.0)
    return max(1.3 * longest_s, 10 * left_edge_s(curves))
