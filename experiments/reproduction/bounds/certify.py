"""Certificates for policies on small instances: the optimum, and the gap of each policy to it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from experiments.reproduction.bounds.chains import chains_bound_s
from experiments.reproduction.bounds.cost import mean_delay_s, table_ends
from experiments.reproduction.bounds.grid import grid_of
from experiments.reproduction.bounds.instances import (
    SLOT_S,
    SmallInstance,
    patient,
    random_instance,
)
from experiments.reproduction.bounds.oracle import oracle_of
from experiments.reproduction.bounds.program import PlacementProgram
from sllmcore.errors import ControlError
from sllmsim.simulate import simulate

FIVE = ("serverless", "availability", "locality", "shepherd", "serverlessllm")
SMALL_S = 1e-6  # tolerance for sums of floats


@dataclass(frozen=True, slots=True)
class Certificate:
    """The mean delays of policies on an instance, and lower bounds, in seconds.

    Args:
        optimum_s: Proven lower bound; the optimum of the program if `exact`.
        chains_s: The bound for large traces, for comparison with the optimum.
        policies_s: Mean delay by policy.
    """

    seed: int
    num_requests: int
    num_servers: int
    num_gpus: int
    optimum_s: float
    exact: bool
    chains_s: float
    policies_s: dict[str, float]

    def gap_s(self, policy: str) -> float:
        """Return the mean delay of a policy above the optimum."""
        return self.policies_s[policy] - self.optimum_s

    def plain(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)


def certificate(
    seed: int, time_limit_s: float | None, policies: Sequence[str] = FIVE
) -> Certificate:
    """Return the certificate of the random instance of a seed.

    Raises:
        ControlError: A policy beat a bound: the bound or the simulator is wrong.
    """
    return certificate_of(random_instance(seed), seed, time_limit_s, policies)


def certificate_of(
    instance: SmallInstance,
    seed: int,
    time_limit_s: float | None,
    policies: Sequence[str] = FIVE,
) -> Certificate:
    """Return the certificate of an instance with all times in whole slots.

    Raises:
        ControlError: A policy beat a bound: the bound or the simulator is wrong.
    """
    oracle = oracle_of(instance.setup, instance.requests)
    policies_s = {}
    for policy in policies:
        result = simulate(patient(policy), instance.setup, instance.requests, seed)
        policies_s[policy] = mean_delay_s(oracle, table_ends(result.recorder.requests))
    num_requests = len(instance.requests)
    grid = grid_of(oracle, SLOT_S, min(policies_s.values()) * num_requests)
    solved = PlacementProgram(grid).solve(time_limit_s)
    made = Certificate(
        seed=seed,
        num_requests=num_requests,
        num_servers=len(instance.setup.servers),
        num_gpus=oracle.num_gpus,
        optimum_s=solved.bound / num_requests,
        exact=solved.exact,
        chains_s=chains_bound_s(oracle, None),
        policies_s=policies_s,
    )
    _check(made)
    return made


def _check(made: Certificate) -> None:
    for policy, cost_s in made.policies_s.items():
        for name, bound_s in (("optimum", made.optimum_s), ("chains", made.chains_s)):
            if cost_s < bound_s - SMALL_S:
                raise ControlError(
                    f"instance {made.seed}: {policy} costs {cost_s} s, less than {name} {bound_s} s"
                )


def gap_table(certificates: Sequence[Certificate]) -> str:
    """Return a table with a row per policy: its gap to the optimum over the instances."""
    exact = sum(made.exact for made in certificates)
    chains = [made.optimum_s - made.chains_s for made in certificates]
    lines = [
        f"{len(certificates)} instances, {exact} solved to optimality "
        f"({100 * exact / len(certificates):.0f} %); mean optimum "
        f"{np.mean([made.optimum_s for made in certificates]):.2f} s of delay per request",
        f"{'policy':<16}{'cost s':>8}{'gap s':>8}{'p90':>8}{'max':>8}{'gap %':>8}{'optimal %':>11}",
    ]
    lines += [_gap_row(policy, certificates) for policy in certificates[0].policies_s]
    lines.append(f"the bound `chains` is {np.mean(chains):.2f} s below the optimum on average")
    return "\n".join(lines) + "\n"


def _gap_row(policy: str, certificates: Sequence[Certificate]) -> str:
    """Return a row; "gap %" is relative to the mean optimum, "optimal %" counts instances."""
    gaps = np.array([made.gap_s(policy) for made in certificates])
    cost_s = float(np.mean([made.policies_s[policy] for made in certificates]))
    optimum_s = float(np.mean([made.optimum_s for made in certificates]))
    percent = 100 * (cost_s / optimum_s - 1) if optimum_s else 0.0
    optimal = 100 * float(np.mean(gaps < SMALL_S))
    return (
        f"{policy:<16}{cost_s:>8.2f}{gaps.mean():>8.2f}{np.quantile(gaps, 0.9):>8.2f}"
        f"{gaps.max():>8.2f}{percent:>8.0f}{optimal:>11.0f}"
    )
