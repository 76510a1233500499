"""Whom to move so that enough GPUs become free: a covering knapsack, by dynamic programming.

`cost(i, n)`: least total cost to free at least n GPUs with the first i victims,
`cost(i, n) = min(cost(i-1, n), cost(i-1, max(0, n - gpus_i)) + cost_i)`. With v victims on a server
and a shortage of n GPUs that is v * n steps: both are at most the GPUs of one server.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sllmcore.errors import UsageError


@dataclass(frozen=True, slots=True)
class Victim:
    """What freeing one instance's GPUs brings and costs."""

    num_gpus: int
    cost_s: float


def choose_victims(victims: Sequence[Victim], shortage_gpus: int) -> tuple[int, ...] | None:
    """Positions of the victims that free `shortage_gpus` at least total cost; None if none do.

    Among equal costs the earlier victims are chosen.
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
