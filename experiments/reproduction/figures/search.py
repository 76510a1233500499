"""Points of the space that the paper leaves open, for the figures `search...`: does any one set of
parameters give all of figure 10, figure 8's ratios, figure 11's knee?

A Sobol sequence, so that points fill the space evenly; the burstiness is published as CV 8, and in
the space to see what giving that up would bring.
"""

from collections.abc import Mapping, Sequence

from scipy.stats.qmc import Sobol

NUM_POINTS = 64
RATES_PER_S = (0.15, 2.0)  # about the 0.9 of figure 10, evenly in the logarithm
POPULARITY = (0.0, 1.5)  # the power law's exponent: 0 is uniform
SLOTS = ("1", "2", "4", "8")
POOLS_GB = ("64", "128", "256", "440")  # of a server's 512
CVS = ("2", "4", "8")
WORDS: Mapping[str, str] = {
    "rps": "workload.target_rps={}",
    "alpha": "workload.popularity.alpha={}",
    "slots": "models.deployments.{model}.num_slots={}",
    "pool_gb": "cluster.servers.a40.dram_pool_bytes={}000000000",
    "cv": "workload.cv={}",
}


def points() -> list[dict[str, str]]:
    """Values by name, as overrides have them."""
    return [_point(unit) for unit in Sobol(5, seed=0).random(NUM_POINTS).tolist()]


def _point(unit: Sequence[float]) -> dict[str, str]:
    rate, alpha, slots, pool, cv = unit
    low, high = RATES_PER_S
    return {
        "rps": f"{low * (high / low) ** rate:.3g}",
        "alpha": f"{POPULARITY[0] + (POPULARITY[1] - POPULARITY[0]) * alpha:.2f}",
        "slots": _of(SLOTS, slots),
        "pool_gb": _of(POOLS_GB, pool),
        "cv": _of(CVS, cv),
    }


def _of(choices: Sequence[str], unit: float) -> str:
    return choices[int(unit * len(choices))]
