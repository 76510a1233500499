"""The choice of victims that free enough GPUs: a covering knapsack, by dynamic programming.

With cost(i, n) the least total cost to free at least n GPUs with the first i victims,
`cost(i, n) = min(cost(i-1, n), cost(i-1, max(0, n - gpus_i)) + cost_i)`. For v victims and a
shortage of n GPUs that takes v * n steps. Both are at most the number of GPUs of one server.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sllmcore.errors import UsageError


@dataclass(frozen=True, slots=True)
class Victim:
    """An instance that may be vacated: the GPUs that this frees and its cost."""

    num_gpus: int
    cost_s: float


def choose_victims(victims: Sequence[Victim], shortage_gpus: int) -> tuple[int, ...] | None:
    """Return the positions of the victims that free `shortage_gpus` at the least total cost.

    None if all victims together do not free enough. Ties: earlier victims.

    Raises:
        UsageError: `shortage_gpus` is less than 1.
    """
    if shortage_gpus < 1:
        raise UsageError(f"shortage_gpus must be >= 1, got {shortage_gpus}")
    best: list[tuple[float, tuple[int, ...]] | None] = [(0.0, ())] + [None] * shortage_gpus
    for position, victim in enumerate(victims):
        for needed in range(shortage_gpus, 0, -1):
            before = best[max(0, needed - victim.num_gpus)]
            if before is None:
                continue
            cost_s = before[0] + victim.cost_s
            now = best[needed]
            if now is None or cost_s < now[0]:
                best[needed] = (cost_s, (*before[1], position))
    found = best[shortage_gpus]
    return None if found is None else found[1]
