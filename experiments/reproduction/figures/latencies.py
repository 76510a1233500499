"""Latencies of a simulation, and its errors of the loading estimate.

Latency is the startup latency plus the pauses after it: "with migration or preemption the pause
is added" [M]. A request that timed out counts with the time-out (300 s).
"""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from experiments.reproduction.figures.simulated import SimulatedRun
from sllmcore.metrics.tables import Table

Measured: TypeAlias = dict[str, Any]  # plain data for JSON
Floats: TypeAlias = NDArray[np.float64]

LIMIT_S = 300.0  # the time-out of the paper's evaluation
NUM_QUANTILES = 200
_DIGITS = 5


def latencies(run: SimulatedRun) -> Measured:
    """Return mean, quantiles and shares of the requests, and counts of the cluster's actions."""
    requests, summary = run.result.recorder.requests, run.result.summary
    latency_s = _latency_s(requests)
    served = np.asarray(requests.columns["outcome"]) == "completed"
    whole_s = _numbers(requests, "ended_at_s") - _numbers(requests, "arrived_at_s")
    gpu_s = summary.gpu_busy_s + summary.gpu_loading_s + summary.gpu_idle_s
    return {
        "requests": summary.requests,
        "mean_s": _rounded(np.mean(latency_s)),
        "p50_s": _rounded(np.quantile(latency_s, 0.5)),
        "p99_s": _rounded(np.quantile(latency_s, 0.99)),
        "ttft_p50_s": summary.ttft_s.p50,
        "inside_limit": _rounded(np.mean(served & (whole_s <= LIMIT_S))),
        "started": _rounded(np.mean(served)),
        "warm": _rounded(summary.warm_starts / summary.requests),
        "migrations": summary.migrations,
        "preemptions": summary.preemptions,
        "loads": dict(summary.loads),
        "gpu_busy": _rounded(summary.gpu_busy_s / gpu_s),
    }


def distributions(run: SimulatedRun) -> Measured:
    """Return `latencies` and the whole distribution as `NUM_QUANTILES` quantiles."""
    levels = (np.arange(NUM_QUANTILES) + 0.5) / NUM_QUANTILES
    quantiles = np.quantile(_latency_s(run.result.recorder.requests), levels)
    return latencies(run) | {"quantiles_s": [_rounded(value) for value in quantiles]}


def estimates(run: SimulatedRun) -> Measured:
    """Return `latencies` and the errors of the loading estimate by tier.

    An error is measured minus expected transfer time, in seconds.
    """
    instances = run.result.recorder.instances
    error_s = _numbers(instances, "transfer_s") - _numbers(instances, "expected_transfer_s")
    sources = np.asarray(instances.columns["source"])
    by_tier = {}
    for tier in ("DRAM", "SSD"):
        errors_s = error_s[(sources == tier) & ~np.isnan(error_s)]
        if len(errors_s):
            at = np.quantile(errors_s, (0.01, 0.5, 0.99)).tolist()
            worst_s = float(np.max(np.abs(errors_s)))
            by_tier[tier] = {
                "loads": len(errors_s),
                "p1_s": at[0],
                "p50_s": at[1],
                "p99_s": at[2],
                "worst_s": worst_s,
            }
    return {"by_tier": by_tier, **latencies(run)}


def _latency_s(requests: Table) -> Floats:
    pause_s = np.nan_to_num(_numbers(requests, "pause_s"))
    return np.nan_to_num(_numbers(requests, "startup_latency_s"), nan=LIMIT_S) + pause_s


def _numbers(table: Table, name: str) -> Floats:
    return np.asarray(table.numbers(name), dtype=np.float64)


def _rounded(value: float | np.floating[Any]) -> float:
    return float(f"{value:.{_DIGITS}g}")
