"""The choice of tokens from logits."""

import math
from collections import Counter
from dataclasses import replace

import pytest
import torch

from sllmcore.errors import UsageError
from sllmreal.engine.mixing import uniform
from sllmreal.engine.penalties import Draw
from sllmreal.engine.protocol import Sampling
from sllmreal.engine.sampling import chosen_tokens

NUM_DRAWS = 1000


def logits_of(*probabilities: float) -> torch.Tensor:
    return torch.tensor([probabilities]).log()


def frequencies(logits: torch.Tensor, sampling: Sampling) -> dict[int, float]:
    rows = logits.expand(NUM_DRAWS, -1)
    tokens = chosen_tokens(rows, [Draw(sampling, index) for index in range(NUM_DRAWS)])
    return {token: count / NUM_DRAWS for token, count in sorted(Counter(tokens).items())}


def test_greedy_takes_the_largest_and_of_equals_the_smallest_token() -> None:
    logits = torch.tensor([[0.0, 3.0, 3.0, 1.0], [5.0, -1.0, 5.0, 5.0]])

    assert chosen_tokens(logits, [Draw(Sampling(), 0)] * 2) == [1, 0]
    assert chosen_tokens(logits.bfloat16(), [Draw(Sampling(), 0)] * 2) == [1, 0]


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(1.0), {0: 0.1, 1: 0.4, 2: 0.2, 3: 0.3}),
        # Squared: 0.01, 0.16, 0.04, 0.09 of 0.3.
        (Sampling(0.5), {0: 1 / 30, 1: 16 / 30, 2: 4 / 30, 3: 9 / 30}),
        (Sampling(1.0, top_k=2), {1: 4 / 7, 3: 3 / 7}),
        (Sampling(1.0, top_k=9), {0: 0.1, 1: 0.4, 2: 0.2, 3: 0.3}),
        (Sampling(1.0, top_p=0.65), {1: 4 / 7, 3: 3 / 7}),
        (Sampling(1.0, top_p=0.75), {1: 4 / 9, 2: 2 / 9, 3: 3 / 9}),
        # Of the two that top_k leaves, the first makes up 4/7.
        (Sampling(1.0, top_k=2, top_p=0.5), {1: 1.0}),
        (Sampling(1.0, top_p=1e-9), {1: 1.0}),
    ],
)
def test_tokens_are_as_frequent_as_their_probabilities(
    sampling: Sampling, expected: dict[int, float]
) -> None:
    measured = frequencies(logits_of(0.1, 0.4, 0.2, 0.3), sampling)

    assert measured.keys() == expected.keys()
    for token, share in expected.items():
        deviation = math.sqrt(share * (1 - share) / NUM_DRAWS)
        assert abs(measured[token] - share) <= 4 * deviation


def test_equals_at_an_edge_are_the_smaller_tokens() -> None:
    logits = logits_of(0.2, 0.3, 0.2, 0.1, 0.2)

    assert set(frequencies(logits, Sampling(1.0, top_k=3))) == {0, 1, 2}
    assert set(frequencies(logits, Sampling(1.0, top_p=0.69))) == {0, 1, 2}


def test_a_flat_distribution_over_a_large_vocabulary_keeps_its_nucleus() -> None:
    """The nucleus is mostly of tokens that are unlikely beside the first."""
    logits = torch.zeros(1, 5000)
    logits[0, 777] = math.log(5000)  # half of all

    measured = frequencies(logits, Sampling(1.0, top_p=0.75))

    assert abs(measured[777] - 2 / 3) < 0.06
    assert 2300 < max(measured) <= 2500  # 0.5 and 2500 times 1e-4 make 0.75


def test_a_token_of_no_probability_is_never_drawn() -> None:
    logits = torch.tensor([[-math.inf, 0.0, -math.inf, 0.0, -math.inf]])

    assert set(frequencies(logits, Sampling(1.0))) == {1, 3}
    assert set(frequencies(logits, Sampling(1.0, top_p=0.999))) == {1, 3}


def test_the_number_of_seed_and_index_decides_by_cumulated_probability() -> None:
    logits = logits_of(0.5, 0.25, 0.25)

    for index in range(50):
        number = uniform(3, index)
        expected = 0 if number < 0.5 else 1 if number < 0.75 else 2
        assert chosen_tokens(logits, [Draw(Sampling(1.0, seed=3), index)]) == [expected]


def test_rows_have_rules_of_their_own() -> None:
    logits = logits_of(0.5, 0.25, 0.25).expand(3, -1)
    sampled = [chosen_tokens(logits[:1], [Draw(Sampling(1.0, seed=9), i)])[0] for i in range(20)]
    index = next(i for i, token in enumerate(sampled) if token)

    draw, greedy = Draw(Sampling(1.0, seed=9), index), Draw(Sampling(seed=9), index)

    assert chosen_tokens(logits, [greedy, draw, greedy]) == [0, sampled[index], 0]


def chosen(logits: torch.Tensor, sampling: Sampling, **draw: object) -> int:
    """Return the token chosen from one row of logits at index 0, or at `index`."""
    rule = replace(Draw(sampling, 0), **draw)  # type: ignore[arg-type]
    return chosen_tokens(logits, [rule])[0]


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(1.0, min_p=0.49), {1: 4 / 9, 2: 2 / 9, 3: 3 / 9}),
        (Sampling(1.0, min_p=0.6), {1: 4 / 7, 3: 3 / 7}),
        (Sampling(1.0, min_p=1.0), {1: 1.0}),
        # Temperature comes first: 0.01, 0.16, 0.04, 0.09.
        (Sampling(0.5, min_p=0.5), {1: 16 / 25, 3: 9 / 25}),
        (Sampling(1.0, min_p=0.6, top_p=0.5), {1: 1.0}),
    ],
)
def test_min_p_keeps_tokens_relative_to_the_likeliest(
    sampling: Sampling, expected: dict[int, float]
) -> None:
    measured = frequencies(logits_of(0.1, 0.4, 0.2, 0.3), sampling)

    assert measured.keys() == expected.keys()
    for token, share in expected.items():
        assert abs(measured[token] - share) <= 4 * math.sqrt(share * (1 - share) / NUM_DRAWS)


def test_presence_and_frequency_penalties_count_the_output_only() -> None:
    logits = torch.tensor([[3.0, 2.6, 2.0, 0.0]])
    history = {"tokens": [1, 1, 1, 0, 0, 2], "num_prompt": 3}  # output: 0, 0, 2

    assert chosen(logits, Sampling(presence_penalty=0.5), **history) == 1
    assert chosen(logits, Sampling(presence_penalty=0.3), **history) == 0
    assert chosen(logits, Sampling(frequency_penalty=0.3), **history) == 1
    assert chosen(logits, Sampling(frequency_penalty=0.19), **history) == 0
    assert chosen(logits, Sampling(frequency_penalty=-2.0), **history) == 0
    assert chosen(logits, Sampling(presence_penalty=2.0), tokens=[0, 0], num_prompt=2) == 0


def test_the_repetition_penalty_is_that_of_transformers() -> None:
    from transformers import RepetitionPenaltyLogitsProcessor

    generator = torch.Generator().manual_seed(1)
    for penalty in (0.7, 1.3, 2.0):
        process = RepetitionPenaltyLogitsProcessor(penalty)
        for _ in range(30):
            logits = torch.randn(1, 20, generator=generator)
            tokens = torch.randint(0, 20, (8,), generator=generator)
            expected = int(process(tokens[None], logits.clone()).argmax())

            rule = Sampling(repetition_penalty=penalty)

            assert chosen(logits, rule, tokens=tokens.tolist(), num_prompt=5) == expected


def test_a_bias_is_added_and_bars_or_forces_a_token() -> None:
    logits = torch.tensor([[3.0, 2.6, 2.0, 0.0]])

    assert chosen(logits, Sampling(logit_bias=((0, -100.0),))) == 1
    assert chosen(logits, Sampling(logit_bias=((3, 100.0),))) == 3
    assert chosen(logits, Sampling(logit_bias=((0, -0.5), (2, 0.5)))) == 1
    assert set(frequencies(logits, Sampling(1.0, logit_bias=((2, 100.0),)))) == {2}


def test_stop_tokens_are_barred_until_there_are_min_tokens() -> None:
    logits = torch.tensor([[3.0, 2.6, 2.0, 0.0]])
    rule = Sampling(min_tokens=2)
    stops = frozenset({0, 1, 99})  # 99 is not in the vocabulary

    assert [chosen(logits, rule, index=i, stop_tokens=stops) for i in range(4)] == [2, 2, 0, 0]


def test_adjusted_rows_leave_the_logits_and_the_other_rows_as_they_are() -> None:
    logits = torch.tensor([[3.0, 2.6, 2.0]]).expand(3, -1).contiguous()
    before = logits.clone()
    plain, biased = Draw(Sampling(), 0), Draw(Sampling(logit_bias=((0, -9.0),)), 0)

    assert chosen_tokens(logits, [plain, biased, plain]) == [0, 1, 0]
    assert torch.equal(logits, before)
    assert chosen_tokens(logits.double(), [plain, biased, plain]) == [0, 1, 0]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("min_p", 1.5),
        ("presence_penalty", 2.5),
        ("frequency_penalty", -3.0),
        ("repetition_penalty", 0.0),
        ("min_tokens", -1),
        ("logit_bias", ((5, math.inf),)),
        ("logit_bias", ((-5, 1.0),)),
    ],
)
def test_an_invalid_rule_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(UsageError, match=field):
        Sampling(**{field: value})  # type: ignore[arg-type]
