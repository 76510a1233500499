"""`a + b x + c x^2` with a, b, c >= 0, learnt by relative errors."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sllmcore.curve import LearntCurve

SIZES = (128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)


def taught(*samples: tuple[float, float], keep: float = 0.9) -> LearntCurve:
    curve = LearntCurve(0.001, 0.5, 2048.0)
    for x, y in samples:
        curve.add(x, y, keep)
    return curve


def test_the_prior_is_a_line() -> None:
    assert taught().at(1000) == pytest.approx(1.5)


def test_a_parabola_is_learnt_over_two_decades_within_a_percent() -> None:
    """Seeded bug: squares of absolute errors, which predict the short ones three times too long."""
    curve = taught(*((x, 0.02 + 3e-4 * x + 3e-8 * x * x) for x in SIZES * 20))

    for x in SIZES:
        assert curve.at(x) == pytest.approx(0.02 + 3e-4 * x + 3e-8 * x * x, rel=0.01)


def test_noise_of_ten_per_cent_is_averaged() -> None:
    rng = Random(4)
    true = {x: 0.02 + 3e-4 * x + 3e-8 * x * x for x in SIZES}
    curve = taught(*((x, true[x] * rng.uniform(0.9, 1.1)) for x in SIZES * 30), keep=0.98)

    for x in SIZES:
        assert curve.at(x) == pytest.approx(true[x], rel=0.05)


def test_the_first_sample_outweighs_the_prior() -> None:
    assert taught((1000, 0.1)).at(1000) == pytest.approx(0.1, rel=0.2)


def test_samples_of_one_size_keep_the_shape_of_the_prior() -> None:
    curve = taught(*[(1000, 3.0)] * 200)

    assert curve.at(1000) == pytest.approx(3.0, rel=0.01)
    assert curve.at(100) < curve.at(1000) < curve.at(2000)


@given(st.lists(st.tuples(st.integers(0, 100_000), st.floats(1e-6, 1e4)), min_size=1, max_size=40))
def test_a_learnt_curve_does_not_fall_and_is_not_negative(
    samples: list[tuple[int, float]],
) -> None:
    """Seeded bug: factors that may be negative."""
    curve = taught(*samples)

    values = [curve.at(x) for x in (0, 1, 10, 1000, 10_000, 100_000)]

    assert values == sorted(values)
    assert values[0] >= 0
