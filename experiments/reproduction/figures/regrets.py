"""How far policies are from the best bound of their class (`experiments.bounds`)."""

from typing import Any

from experiments.reproduction.bounds.best import standing_of
from experiments.reproduction.bounds.cost import table_ends
from experiments.reproduction.bounds.oracle import oracle_of, powers_of
from experiments.reproduction.figures.played import PlayedRun


def regrets(played: PlayedRun) -> dict[str, Any]:
    """Mean delay, the best bound on it, and what is between the two.

    Raises:
        ControlError: The run beat a bound.
    """
    policy, requests = played.policy, played.result.recorder.requests
    oracle = oracle_of(played.setup, played.jobs, powers_of(policy))
    standing = standing_of(oracle, table_ends(requests), policy.controller.startup_timeout_s)
    return {
        "requests": played.result.summary.requests,
        "timed_out": played.result.summary.timed_out,
        "startup_s": played.result.summary.startup_latency_s.mean,
        "delay_s": standing.delay_s,
        "bound_s": standing.bound_s,
        "regret_s": standing.regret_s,
        "loads": dict(played.result.summary.loads),
        "warm": played.result.summary.warm_starts / played.result.summary.requests,
    }
