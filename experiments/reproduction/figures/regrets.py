"""The measure `regrets`: the distance of a run from the best bound of its policy's class."""

from typing import Any

from experiments.reproduction.bounds.best import standing_of
from experiments.reproduction.bounds.cost import table_ends
from experiments.reproduction.bounds.oracle import oracle_of, powers_of
from experiments.reproduction.figures.simulated import SimulatedRun


def regrets(run: SimulatedRun) -> dict[str, Any]:
    """Return mean delay, the best bound on it, and the difference of the two, in seconds.

    Raises:
        ControlError: The run beat a bound: the bound is wrong.
    """
    policy, summary = run.policy, run.result.summary
    oracle = oracle_of(run.setup, run.requests, powers_of(policy))
    ends = table_ends(run.result.recorder.requests)
    standing = standing_of(oracle, ends, policy.controller.startup_timeout_s)
    return {
        "requests": summary.requests,
        "timed_out": summary.timed_out,
        "startup_s": summary.startup_latency_s.mean,
        "delay_s": standing.delay_s,
        "bound_s": standing.bound_s,
        "regret_s": standing.regret_s,
        "loads": dict(summary.loads),
        "warm": summary.warm_starts / summary.requests,
    }
