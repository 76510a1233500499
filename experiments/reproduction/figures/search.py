"""Points in the space of the parameters that the paper does not publish, for the `search` figures.

The question is whether one set of parameters gives all of figure 10, the ratios of figure 8 and the
knee of figure 11. The points are a Sobol sequence, which fills the space evenly. The burstiness is
published (CV 8); the space contains other values to show what they would change.
"""

from collections.abc import Mapping, Sequence

from scipy.stats.qmc import Sobol

NUM_POINTS = 64
RATES_PER_S = (0.15, 2.0)  # around the 0.9 of figure 10, evenly in the logarithm
POPULARITY = (0.0, 1.5)  # the power law's exponent: 0 is uniform
SLOTS = ("1", "2", "4", "8")
POOLS_GB = ("64", "128", "256", "440")  # of a server's 512
CVS = ("2", "4", "8")
OVERRIDES: Mapping[str, str] = {
    "rps": "workload.target_rps={}",
    "alpha": "workload.popularity.alpha={}",
    "slots": "models.deployments.{model}.num_slots={}",
    "pool_gb": "cluster.servers.a40.dram_pool_bytes={}000000000",
    "cv": "workload.cv={}",
}


def points() -> list[dict[str, str]]:
    """Return the points: parameter name -> value, written as in an override."""
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
