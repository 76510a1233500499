import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from traces.seeding import generator
from traces.windows import GapLaw, MinuteGaps, offsets


@given(
    st.integers(1, 200),
    st.sampled_from(["uniform", "exponential", "equidistant"]),
    st.sampled_from(list(GapLaw)),
    st.floats(0.01, 5.0),
    st.integers(0, 99),
)
def test_every_arrival_lies_inside_its_window_in_order(
    num: int, gaps: MinuteGaps, law: GapLaw, shape: float, seed: int
) -> None:
    times = offsets(
        num=num, window_s=60.0, law=law, shape=shape, gaps=gaps, rng=generator(seed, "t")
    )

    assert times.shape == (num,)
    assert np.all(np.diff(times) >= 0)
    assert times[0] >= 0
    assert times[-1] < 60.0


def test_equidistant_arrivals_are_a_beat() -> None:
    times = offsets(
        num=4, window_s=60.0, law=GapLaw.AS_ASKED, shape=0.0, gaps="equidistant", rng=generator(0)
    )

    assert times.tolist() == [7.5, 22.5, 37.5, 52.5]


def test_exponential_gaps_are_spread_like_uniform_times() -> None:
    rng = generator(1, "gaps")

    means = [
        np.mean(
            [
                offsets(num=5, window_s=60.0, law=GapLaw.AS_ASKED, shape=0.0, gaps=gaps, rng=rng)
                for _ in range(2000)
            ]
        )
        for gaps in ("uniform", "exponential")
    ]

    # The standard error of a mean of 10,000 uniform times in a minute is 0.17 s.
    assert means == pytest.approx([30.0, 30.0], abs=0.9)


def test_a_gamma_window_of_small_shape_is_a_burst() -> None:
    rng = generator(1, "gaps")

    times = [
        offsets(num=50, window_s=600.0, law=GapLaw.GAMMA, shape=0.01, gaps="uniform", rng=rng)
        for _ in range(100)
    ]

    gaps = np.concatenate([np.diff(each) for each in times])
    assert np.mean(gaps < 1e-3) > 0.8  # of 50 uniform times in 600 s, 1 gap in 10,000
