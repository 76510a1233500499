"""Cumulative distributions of startup latency: what share of all requests had started by then.

A request that never started (timed out, rejected, left) counts in the whole but never rises the
curve, so that a curve ends below 1 by what it lost. The same for the time to the first token.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from experiments.comparison.results import PolicyResult
from experiments.simulation.run_folder import REQUESTS

MAX_POINTS = 2000  # beyond the resolution of any picture


@dataclass(frozen=True, slots=True)
class Curve:
    """Points of a CDF, rising in both.

    Attributes:
        latency_s: Startup latencies; 0 where a warm instance took the request at once.
        shares: Of all requests that had started by then.
        never_started: Share of all requests.
    """

    label: str
    latency_s: tuple[float, ...]
    shares: tuple[float, ...]
    never_started: float


def startup_curve(result: PolicyResult, until: str = "started_at_s") -> Curve:
    """Of all requests of a policy, over all its seeds.

    Args:
        until: The column that ends the wait: `first_token_at_s` gives the time to first token.
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
    """The largest vertical distance of two curves (Kolmogorov and Smirnov's), in [0, 1]."""
    at_s = sorted({*one.latency_s, *other.latency_s})
    return max((abs(_share(one, s) - _share(other, s)) for s in at_s), default=0.0)


def _share(curve: Curve, latency_s: float) -> float:
    below = bisect_right(curve.latency_s, latency_s)
    return curve.shares[below - 1] if below else 0.0


def left_edge_s(curves: Sequence[Curve]) -> float:
    """Where a logarithmic axis begins: a decade that holds nearly all waits that are not zero."""
    positive = sorted(s for curve in curves for s in curve.latency_s if s > 0)
    if not positive:
        return 0.01
    low_s, edge_s = positive[len(positive) // 100], 10.0
    while edge_s > low_s and edge_s > 1e-3:
        edge_s /= 10
    return edge_s


def right_edge_s(curves: Sequence[Curve]) -> float:
    """The longest wait, and some room; at least a decade from the left edge."""
    longest_s = max((curve.latency_s[-1] for curve in curves if curve.latency_s), default=0.0)
    return max(1.3 * longest_s, 10 * left_edge_s(curves))
