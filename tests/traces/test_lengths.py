import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from traces.data_files import load_json
from traces.errors import TraceError
from traces.lengths import (
    LengthLimits,
    Lengths,
    Quantiles,
    length_profile,
    length_stream,
    profile_names,
)
from traces.seeding import generator

# p50 and p99 as published for each data set, in tokens.
PUBLISHED = {
    "gsm8k": ((60, 137), (117, 299)),
    "sharegpt": ((1276, 2317), (308, 771)),
    "azure_code": ((1469, 7436), (13, 251)),
    "azure_conv": ((1020, 4142), (129, 601)),
    "mooncake_conv": ((6909, 85400), (350, 1119)),
}


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_sampled_lengths_have_the_quantiles_of_their_data_set(name: str) -> None:
    profile, rng = length_profile(name), generator(0, "lengths")

    quantiles = [
        np.quantile(side.sample(rng, 40_000), [0.5, 0.99])
        for side in (profile.input, profile.output)
    ]

    assert quantiles[0] == pytest.approx(PUBLISHED[name][0], rel=0.05)
    assert quantiles[1] == pytest.approx(PUBLISHED[name][1], rel=0.05)


def test_every_profile_names_its_source() -> None:
    for name in profile_names():
        profile = length_profile(name)
        assert profile.source
        assert profile.licence
        assert load_json("length_profiles.json")["profiles"][name]["cite"]


@given(st.sampled_from(profile_names()), st.integers(0, 50))
def test_lengths_stay_within_their_profile(name: str, seed: int) -> None:
    profile = length_profile(name)

    drawn = profile.input.sample(generator(seed, "lengths"), 500)

    assert drawn.min() >= max(1, profile.input.tokens[0])
    assert drawn.max() <= profile.input.tokens[-1]


def test_input_and_output_are_independent() -> None:
    stream = length_stream(length_profile("azure_conv"), generator(5, "lengths"))

    pairs = [next(stream) for _ in range(5_000)]

    inputs, outputs = [p.input_tokens for p in pairs], [p.output_tokens for p in pairs]
    assert abs(np.corrcoef(inputs, outputs)[0, 1]) < 0.06  # 4 standard errors


def test_the_error_for_an_unknown_profile_lists_the_names() -> None:
    with pytest.raises(TraceError, match="no length profile 'gsm9k'; there are azure_code, "):
        length_profile("gsm9k")


@pytest.mark.parametrize(
    ("limits", "cut"),
    [
        (LengthLimits(), Lengths(3000, 500)),
        (LengthLimits(context_limit_tokens=2048), Lengths(2048, 500)),
        (LengthLimits(total_limit_tokens=3200), Lengths(3000, 200)),
        (LengthLimits(2048, 2048), Lengths(2048, 1)),
        (LengthLimits(2048, 4096), Lengths(2048, 500)),
        (LengthLimits(total_limit_tokens=100), Lengths(100, 1)),
    ],
)
def test_lengths_are_cut_to_what_a_model_takes(limits: LengthLimits, cut: Lengths) -> None:
    assert limits.cut(Lengths(3000, 500)) == cut


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_that_is_not_positive_is_an_error(limit: int) -> None:
    with pytest.raises(TraceError, match="must be at least 1"):
        LengthLimits(context_limit_tokens=limit)


@pytest.mark.parametrize(
    ("probabilities", "tokens"),
    [
        ((0.0, 1.0), (1.0,)),
        ((0.0,), (1.0,)),
        ((0.1, 1.0), (1.0, 2.0)),
        ((0.0, 0.9), (1.0, 2.0)),
        ((0.0, 0.6, 0.5, 1.0), (1.0, 2.0, 3.0, 4.0)),
        ((0.0, 0.5, 1.0), (1.0, 3.0, 2.0)),
    ],
)
def test_quantiles_that_do_not_rise_from_0_to_1_are_an_error(
    probabilities: tuple[float, ...], tokens: tuple[float, ...]
) -> None:
    with pytest.raises(TraceError, match="length profile"):
        Quantiles(probabilities, tokens)
