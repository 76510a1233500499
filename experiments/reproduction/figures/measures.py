"""The measures: the numbers that figures keep of a run, in place of its tables.

A new measure is a function in a file of its own and an entry in `MEASURES`. This file is not part
of any digest, so a new entry makes no stored result stale.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from experiments.config.run_config import RunConfig
from experiments.reproduction.figures.latencies import (
    Measured,
    distributions,
    estimates,
    latencies,
)
from experiments.reproduction.figures.regrets import regrets
from experiments.reproduction.figures.simulated import SimulatedRun, simulated

_LATENCY_SOURCES = ("figures/latencies.py", "figures/simulated.py")


@dataclass(frozen=True, slots=True)
class Measure:
    """The numbers that are kept of a run.

    Args:
        take: Returns the numbers.
        sources: Files of the code that takes them, as glob patterns below
            `experiments/reproduction`; a change there makes stored results stale.
        extends: Name of the measure that it extends: it contains all numbers of that measure.
        adds: Names of the numbers that it has beyond those of `extends`.
    """

    take: Callable[[SimulatedRun], Measured]
    sources: tuple[str, ...]
    extends: str | None = None
    adds: tuple[str, ...] = ()


MEASURES: Mapping[str, Measure] = {
    "latencies": Measure(latencies, _LATENCY_SOURCES),
    "distributions": Measure(distributions, _LATENCY_SOURCES, "latencies", ("quantiles_s",)),
    "estimates": Measure(estimates, _LATENCY_SOURCES, "latencies", ("by_tier",)),
    "regrets": Measure(regrets, ("figures/regrets.py", "figures/simulated.py", "bounds/*.py")),
}


def measured(config: RunConfig, measure: str) -> Measured:
    """Simulate a run and return the numbers of a measure."""
    return MEASURES[measure].take(simulated(config))


def extensions(measure: str) -> list[str]:
    """Return the names of the measures that contain the numbers of `measure`."""
    return [name for name, other in MEASURES.items() if other.extends == measure]


def added_by_others(measure: str) -> set[str]:
    """Return the names of the numbers that other measures have and `measure` lacks."""
    others = (other for name, other in MEASURES.items() if name != measure)
    return {number for other in others for number in other.adds}
