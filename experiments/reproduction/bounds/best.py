"""The best of the bounds that hold for a run, and how far the run is above it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from experiments.reproduction.bounds.chains import chains_bound_s
from experiments.reproduction.bounds.cost import RequestEnd, mean_delay_s
from experiments.reproduction.bounds.oracle import Oracle
from experiments.reproduction.bounds.pooled import pooled_bound_s
from sllmcore.errors import ControlError

SMALL_S = 1e-6  # what sums of floats may be off

_chains_bound_s = lru_cache(maxsize=4)(chains_bound_s)  # policies of one class have it in common


@dataclass(frozen=True, slots=True)
class Standing:
    """A run beside its bounds: mean delays per request, in seconds.

    Args:
        pooled_s: None: a request timed out, so that this bound does not hold for the run.
        bound_s: The best of the bounds.
    """

    delay_s: float
    chains_s: float
    pooled_s: float | None
    bound_s: float

    @property
    def regret_s(self) -> float:
        return self.delay_s - self.bound_s


def standing_of(oracle: Oracle, ends: Sequence[RequestEnd], timeout_s: float | None) -> Standing:
    """Where a run stands.

    Raises:
        ControlError: It beat a bound, which is a mistake in one of them.
    """
    chains_s = _chains_bound_s(oracle, timeout_s)
    timed_out = any(end.outcome == "timed_out" for end in ends)
    pooled_s = None if timed_out else pooled_bound_s(oracle)
    bound_s = max(chains_s, pooled_s or 0.0)
    delay_s = mean_delay_s(oracle, ends)
    if delay_s < bound_s - SMALL_S:
        raise ControlError(f"a run costs {delay_s} s, less than the bound {bound_s} s")
    return Standing(delay_s, chains_s, pooled_s, bound_s)
