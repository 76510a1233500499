"""Sequences move between vLLM and the transformers engine, by tokens or with their KV cache."""

import itertools
import random
from pathlib import Path

import pytest

from experiments.campaigns.engine.driving import (
    CacheTransfer,
    MigrationCase,
    migrated_output,
    sampling_of,
    whole_output,
)
from experiments.campaigns.engine.makers import VOCABULARY, EngineMaker, TransformersMaker
from sllmreal.engine.protocol import Engine, SequenceSpec

SAMPLE = "llama-mini"


@pytest.fixture(scope="module")
def engines(models: Path) -> dict[str, Engine]:
    from experiments.campaigns.engine.vllm_maker import VllmMaker

    vllm: EngineMaker = VllmMaker(models, SAMPLE)
    transformers: EngineMaker = TransformersMaker(models, SAMPLE)
    return {
        "vllm": vllm(chunk_tokens=32),
        "vllm too": vllm(chunk_tokens=32),
        "transformers": transformers(chunk_tokens=32),
    }


@pytest.mark.parametrize("transfer", list(CacheTransfer))
@pytest.mark.parametrize("sampling", ["greedy", "sampled"])
@pytest.mark.parametrize(
    ("source", "destination"), itertools.permutations(("vllm", "vllm too", "transformers"), 2)
)
def test_a_moved_sequence_goes_on_as_if_it_had_stayed(
    engines: dict[str, Engine],
    source: str,
    destination: str,
    sampling: str,
    transfer: CacheTransfer,
) -> None:
    rng = random.Random(f"{source} {destination}")
    for number in range(6):
        prompt = tuple(rng.randrange(VOCABULARY) for _ in range(rng.randint(1, 60)))
        moves_at = rng.randint(1, 23)
        spec = SequenceSpec(f"p{number}", prompt, 24, sampling_of(sampling, number))
        expected = whole_output(engines["transformers"], spec)
        assert whole_output(engines["vllm"], spec) == expected

        move = MigrationCase(spec, transfer, rng.randint(0, moves_at), moves_at)
        assert migrated_output(engines[source], engines[destination], move) == expected


def test_both_engines_describe_their_cache_alike(engines: dict[str, Engine]) -> None:
    one, other = engines["vllm"].capabilities, engines["transformers"].capabilities

    assert (one.kv_layout, one.kv_bytes_per_token) == (other.kv_layout, other.kv_bytes_per_token)
    assert one.kv_layout
