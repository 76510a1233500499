"""`sllm serve`, `sllm deploy --engine vllm` and OpenAI's client: output equals transformers'."""

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sllmreal.engine.samples import write_sample
from tests.vllm_cluster.serving import (
    ServedCluster,
    generated,
    in_float32,
    reference,
    served,
    unexplained_difference,
)

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]
REAL_MODEL = Path(__file__).resolve().parents[2] / "models" / "smollm2-135m-instruct"
NUM_PROMPTS = 20
NUM_TOKENS = 16


@pytest.fixture(scope="module", params=["llama-mini", "smollm2"])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's directory, with a tokenizer and float32 weights."""
    directory = tmp_path_factory.mktemp("models")
    if request.param == "llama-mini":
        return write_sample(directory / "sample", "llama-mini", with_tokenizer=True)
    if not REAL_MODEL.exists():
        pytest.skip("models/smollm2-135m-instruct is missing: `make real-model`")
    return in_float32(REAL_MODEL, directory / "real")


@pytest.fixture(scope="module")
def cluster(source: Path) -> Iterator[ServedCluster]:
    size_gb = (source / "model.safetensors").stat().st_size / 1e9
    with (
        tempfile.TemporaryDirectory() as home,  # short: sockets lie in it
        served(Path(home), max(0.1, 1.2 * size_gb)) as running,
    ):
        assert running.deploy(source, "vllm", "dtype=float32", name="by-vllm") == 0
        assert running.deploy(source, "transformers", name="by-transformers") == 0
        yield running


def test_both_engines_generate_the_tokens_of_transformers(
    cluster: ServedCluster, source: Path
) -> None:
    model, rng = reference(source), random.Random(0)

    for _ in range(NUM_PROMPTS):
        prompt = [rng.randrange(1, 1000) for _ in range(rng.randint(1, 40))]
        expected = generated(model, prompt, NUM_TOKENS)
        for name in ("by-vllm", "by-transformers"):
            found = cluster.tokens(name, prompt, NUM_TOKENS)
            assert unexplained_difference(model, prompt, expected, found) is None


def test_a_chat_is_answered_by_vllm(cluster: ServedCluster, source: Path) -> None:
    chat = cluster.client.chat.completions.create(
        model="by-vllm",
        messages=[{"role": "user", "content": "What is the capital of France?"}],
        max_tokens=24,
        temperature=0,
    )

    answer = chat.choices[0].message.content
    assert answer
    if source.name == "real":
        assert "Paris" in answer
