from math import log
from random import Random
from statistics import median

import pytest

from paper_figures.statistics import Estimate, estimate, ratio_band, reach, verdict


def test_the_interval_of_ten_values_leaves_out_the_smallest_and_the_largest() -> None:
    values = [float(value) for value in (9, 1, 2, 3, 4, 5, 6, 7, 8, 100)]

    assert estimate(values) == Estimate(5.5, 2.0, 9.0)


def test_the_interval_of_few_values_is_their_range() -> None:
    assert estimate([3.0, 1.0, 2.0]) == Estimate(2.0, 1.0, 3.0)


def test_there_is_no_median_of_nothing() -> None:
    with pytest.raises(ValueError, match="no values"):
        estimate([])


@pytest.mark.parametrize(
    ("value", "expected"), [(10.0, "within 25 %"), (19.0, "within 2x"), (30.0, "off")]
)
def test_reach_is_the_distance_class_of_a_number(value: float, expected: str) -> None:
    assert reach(value, 10.0) == expected


def test_an_interval_inside_the_band_agrees_and_one_outside_differs() -> None:
    band = ratio_band(10.0, 1.25)

    assert verdict([9.0, 10.0, 11.0, 12.0], band) == "agrees"
    assert verdict([13.0, 14.0, 15.0, 16.0], band) == "differs"
    assert verdict([1.0, 2.0, 3.0, 7.0], band) == "differs"


def test_an_interval_across_an_end_of_the_band_is_undecided() -> None:
    assert verdict([11.0, 12.0, 13.0, 14.0], ratio_band(10.0, 1.25)) == "undecided"
    assert verdict([1.0, 100.0], ratio_band(10.0, 1.25)) == "undecided"


def test_halves_that_disagree_are_undecided() -> None:
    equal, split = [10.0] * 10, [10.0] * 5 + [90.0] * 5
    values = [value for pair in zip(split, equal, strict=True) for value in pair]
    band = ratio_band(10.0, 1.25)

    assert estimate(values).high in band
    assert verdict(values, band) == "undecided"


def test_every_second_seed_never_reverses_a_verdict() -> None:
    rng = Random(0)
    band = ratio_band(1.0, 1.25)
    decided = 0
    for _ in range(300):
        centre = rng.uniform(0.6, 1.6)
        values = [rng.lognormvariate(log(centre), 0.2) for _ in range(20)]
        whole = verdict(values, band)
        if whole == "undecided":
            continue
        decided += 1
        for half in (values[0::2], values[1::2]):
            assert (median(half) in band) is (whole == "agrees")
            assert verdict(half, band) in (whole, "undecided")
    assert decided > 100
