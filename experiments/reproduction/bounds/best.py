"""The best of the bounds that hold for a run, and the distance of the run from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from experiments.reproduction.bounds.chains import chains_bound_s
from experiments.reproduction.bounds.cost import RequestEnd, mean_delay_s
from experiments.reproduction.bounds.oracle import Oracle
from experiments.reproduction.bounds.pooled import pooled_bound_s
from sllmcore.errors import ControlError

SMALL_S = 1e-6  # tolerance for sums of floats

_chains_bound_s = lru_cache(maxsize=4)(chains_bound_s)  # policies of a class have the same bound


@dataclass(frozen=True, slots=True)
class Standing:
    """The mean delay per request of a run and its bounds, in seconds.

    Args:
        pooled_s: None if a request timed out, since this bound does not hold then.
        bound_s: The best of the bounds.
    """

    delay_s: float
    chains_s: float
    pooled_s: float | None
    bound_s: float

    @property
    def regret_s(self) -> float:
        """Mean delay above the best bound."""
        return self.delay_s - self.bound_s


def standing_of(oracle: Oracle, ends: Sequence[RequestEnd], timeout_s: float | None) -> Standing:
    """Return a run's mean delay and its bounds.

    Raises:
        ControlError: The run beat a bound: the bound or the simulator is wrong.
    """
    chains_s = _chains_bound_s(oracle, timeout_s)
    timed_out = any(end.outcome == "timed_out" for end in ends)
    pooled_s = None if timed_out else pooled_bound_s(oracle)
    bound_s = max(chains_s, pooled_s or 0.0)
    delay_s = mean_delay_s(oracle, ends)
    if delay_s < bound_s - SMALL_S:
        raise ControlError(f"a run costs {delay_s} s, less than its lower bound {bound_s} s")
    return Standing(delay_s, chains_s, pooled_s, bound_s)
