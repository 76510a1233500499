import pytest

from paper_figures.statistics import Estimate, estimate, verdict


def test_the_interval_of_ten_values_leaves_out_the_smallest_and_the_largest() -> None:
    values = [float(value) for value in (9, 1, 2, 3, 4, 5, 6, 7, 8, 100)]

    assert estimate(values) == Estimate(5.5, 2.0, 9.0)


def test_the_interval_of_few_values_is_their_range() -> None:
    assert estimate([3.0, 1.0, 2.0]) == Estimate(2.0, 1.0, 3.0)


def test_there_is_no_median_of_nothing() -> None:
    with pytest.raises(ValueError, match="no values"):
        estimate([])


@pytest.mark.parametrize(
    ("value", "firm", "expected"),
    [
        (10.0, True, "within 25 %"),
        (12.4, True, "within 25 %"),
        (19.0, True, "within 2x"),
        (30.0, False, "off"),
    ],
)
def test_a_verdict_says_how_far_off_we_are(value: float, firm: bool, expected: str) -> None:
    assert verdict(Estimate(value, value, value), 10.0, firm=firm) == expected


def test_a_verdict_is_unsure_if_the_interval_crosses_the_bound_that_counts() -> None:
    ours = Estimate(12.0, 11.0, 14.0)

    assert verdict(ours, 10.0, firm=True) == "within 25 %, unsure"
    assert verdict(ours, 10.0, firm=False) == "within 25 %"
