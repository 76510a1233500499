"""The covering knapsack against every subset."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sllmcore.errors import UsageError
from sllmcore.scheduling.victims import Victim, choose_victims

VICTIMS = st.lists(st.builds(Victim, st.integers(1, 4), st.integers(0, 6).map(float)), max_size=7)


def gpus(victims: list[Victim], chosen: tuple[int, ...]) -> int:
    return sum(victims[i].num_gpus for i in chosen)


def cost_s(victims: list[Victim], chosen: tuple[int, ...]) -> float:
    return sum(victims[i].cost_s for i in chosen)


def cheapest_s(victims: list[Victim], shortage: int) -> float | None:
    """By trying every subset."""
    positions = range(len(victims))
    subsets = [c for size in range(len(victims) + 1) for c in combinations(positions, size)]
    costs = [cost_s(victims, c) for c in subsets if gpus(victims, c) >= shortage]
    return min(costs, default=None)


@given(VICTIMS, st.integers(1, 8))
def test_no_other_choice_of_victims_is_cheaper(victims: list[Victim], shortage: int) -> None:
    chosen = choose_victims(victims, shortage)

    expected = cheapest_s(victims, shortage)
    assert (chosen is None) == (expected is None)
    if chosen is not None:
        assert len(set(chosen)) == len(chosen)
        assert gpus(victims, chosen) >= shortage
        assert cost_s(victims, chosen) == expected


@given(VICTIMS, st.integers(1, 8))
def test_no_victim_is_superfluous(victims: list[Victim], shortage: int) -> None:
    chosen = choose_victims(victims, shortage) or ()

    for spared in chosen:
        assert gpus(victims, tuple(i for i in chosen if i != spared)) < shortage


def test_one_large_victim_beats_two_small_ones_that_cost_more() -> None:
    victims = [Victim(1, 2.0), Victim(1, 2.0), Victim(2, 3.0)]

    assert choose_victims(victims, 2) == (2,)


def test_ties_go_to_the_earlier_victims() -> None:
    assert choose_victims([Victim(1, 1.0), Victim(1, 1.0)], 1) == (0,)


def test_victims_that_are_not_enough_are_not_chosen() -> None:
    assert choose_victims([Victim(1, 1.0)], 2) is None


def test_a_shortage_of_zero_gpus_is_an_error() -> None:
    with pytest.raises(UsageError, match="shortage_gpus"):
        choose_victims([], 0)
