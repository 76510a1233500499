import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from traces.errors import TraceError
from traces.popularity import FUNCTIONS_SIGMA, Popularity, shares, top_share

KINDS = [
    Popularity("power_law", alpha=0.9),
    Popularity("lognormal", sigma=2.1),
    Popularity("lognormal", sigma=0.0),
    Popularity("uniform"),
]


@given(st.sampled_from(KINDS), st.integers(1, 500))
def test_shares_fall_and_add_up_to_one(popularity: Popularity, num: int) -> None:
    ranked = shares(popularity, num, seed=0)

    assert len(ranked) == num
    assert ranked == sorted(ranked, reverse=True)
    assert math.fsum(ranked) == pytest.approx(1.0)


def test_a_power_law_has_the_ratios_of_its_ranks() -> None:
    ranked = shares(Popularity("power_law", alpha=0.5), 4, seed=0)

    assert [ranked[0] / share for share in ranked] == pytest.approx([1, 2**0.5, 3**0.5, 2])


def test_the_lognormal_of_functions_has_the_published_top_shares() -> None:
    # 72,359 functions of Azure 2019: the top 1 % carry 92.42 %, the top 10 % carry 99.49 %.
    ranked = shares(Popularity("lognormal", sigma=FUNCTIONS_SIGMA), 72_359, seed=0)

    assert top_share(ranked, 0.01) == pytest.approx(0.9242, rel=0.10)
    assert top_share(ranked, 0.1) == pytest.approx(0.9949, rel=0.10)


def test_shuffling_keeps_the_shares_and_follows_the_seed() -> None:
    popularity = Popularity("lognormal", sigma=2.0, shuffled=True)

    orders = [shares(popularity, 50, seed) for seed in (1, 1, 2)]

    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2])
    assert orders[0] != sorted(orders[0], reverse=True)


def test_a_huge_sigma_does_not_overflow() -> None:
    ranked = shares(Popularity("lognormal", sigma=500.0), 100, seed=0)

    assert ranked[0] == pytest.approx(1.0)


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_a_parameter_that_is_not_a_number_from_0_is_an_error(value: float) -> None:
    with pytest.raises(TraceError, match="alpha of a popularity"):
        Popularity("power_law", alpha=value)
    with pytest.raises(TraceError, match="sigma of a popularity"):
        Popularity("lognormal", sigma=value)


def test_the_top_share_rounds_up_to_whole_items() -> None:
    assert top_share([1, 5, 4], 0.1) == 0.5
    assert top_share([1, 5, 4], 0.34) == 0.9
    assert top_share([0, 0], 0.5) == 0.0
