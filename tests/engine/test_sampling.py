"""The choice of tokens from logits."""

import math
from collections import Counter

import pytest
import torch

from sllmreal.engine.mixing import uniform
from sllmreal.engine.protocol import Sampling
from sllmreal.engine.sampling import Draw, chosen_tokens

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
