"""An engine of two tensor-parallel ranks: output, and moves to and from an engine of one rank."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.campaigns.engine.driving import (
    CacheTransfer,
    MigrationCase,
    migrated_output,
    sampling_of,
    whole_output,
)
from experiments.campaigns.engine.makers import VOCABULARY
from sllmreal.engine.protocol import Engine, SequenceSpec


@pytest.fixture(scope="module")
def one_rank(models: Path) -> Engine:
    from experiments.campaigns.engine.vllm_maker import VllmMaker

    return VllmMaker(models, "llama-mini")(chunk_tokens=32)


@pytest.fixture(scope="module")
def two_ranks(models: Path) -> Iterator[Engine]:
    from experiments.campaigns.engine.vllm_maker import VllmMaker

    engine = VllmMaker(models, "llama-mini", num_ranks=2)(chunk_tokens=32)
    yield engine
    engine.close()


def specs(sampling: str, count: int) -> Iterator[SequenceSpec]:
    """Yield `count` random prompts with 12 output tokens each."""
    rng = random.Random(sampling)
    for number in range(count):
        prompt = tuple(rng.randrange(VOCABULARY) for _ in range(rng.randint(1, 60)))
        yield SequenceSpec(f"p{number}", prompt, 12, sampling_of(sampling, number))


@pytest.mark.parametrize(("sampling", "count"), [("greedy", 20), ("sampled", 5)])
def test_two_ranks_generate_the_tokens_of_one(
    one_rank: Engine, two_ranks: Engine, sampling: str, count: int
) -> None:
    for spec in specs(sampling, count):
        assert whole_output(two_ranks, spec) == whole_output(one_rank, spec)


def test_a_sequence_migrates_from_one_rank_to_two_and_back(
    one_rank: Engine, two_ranks: Engine
) -> None:
    rng = random.Random(1)
    for spec in specs("greedy", 4):
        expected = whole_output(one_rank, spec)
        for source, destination in ((one_rank, two_ranks), (two_ranks, one_rank)):
            moves_at = rng.randint(1, 11)
            move = MigrationCase(spec, CacheTransfer.REPLAY, rng.randint(0, moves_at), moves_at)
            assert migrated_output(source, destination, move) == expected


def test_an_engine_of_two_ranks_exports_no_cache(two_ranks: Engine) -> None:
    assert not two_ranks.capabilities.exports_kv
