"""Pairs of measured and predicted results of a policy, and their differences."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from experiments.comparison.curves import distance, startup_curve
from experiments.comparison.results import PolicyResult

PREDICTED = "predicted"  # suffix of the label of a simulated cell that predicts a real one
RATIOS = ("startup_latency_s", "ttft_s")
COUNTS = ("warm_starts", "migrations", "preemptions")


def predicted_label(policy: str) -> str:
    """Return the label of the row with the prediction for a policy."""
    return f"{policy}-{PREDICTED}"


@dataclass(frozen=True, slots=True)
class Pair:
    """The measured and the predicted results of a policy."""

    measured: PolicyResult
    predicted: PolicyResult


def pairs_of(results: Sequence[PolicyResult]) -> list[Pair]:
    """Return the pairs of policies that have both, in the order of the measured results."""
    by_label = {result.label: result for result in results}
    return [
        Pair(result, by_label[predicted_label(result.label)])
        for result in results
        if result.real and predicted_label(result.label) in by_label
    ]


def plain_pair(pair: Pair) -> dict[str, Any]:
    """Return plain data for JSON: ratios, differences of counts, distance of the CDFs."""
    measured, predicted = pair.measured, pair.predicted
    ratios = {
        f"{name}.{part}": _ratio(measured.number(f"{name}.{part}"), predicted, f"{name}.{part}")
        for name in RATIOS
        for part in ("mean", "p50", "p95", "p99")
    }
    counts = {name: measured.number(name) - predicted.number(name) for name in COUNTS}
    return {
        "policy": measured.label,
        "measured_over_predicted": ratios,
        "measured_minus_predicted": counts,
        "startup_cdf_distance": distance(startup_curve(measured), startup_curve(predicted)),
    }


def _ratio(measured: float, predicted: PolicyResult, name: str) -> float | None:
    expected = predicted.number(name)
    return measured / expected if expected else None
