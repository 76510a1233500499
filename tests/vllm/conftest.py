"""Tests of the vLLM engine: they run in vLLM's environment (`make vllm`, `make test-vllm`)."""

from pathlib import Path

import pytest

from experiments.campaigns.engine.makers import EngineMaker

pytest.importorskip("vllm", reason="vLLM is not installed here: `make vllm test-vllm` runs these")


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of sample models, each written once."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture
def maker(models: Path) -> EngineMaker:
    """Makes vLLM engines of the same weights."""
    from experiments.campaigns.engine.vllm_maker import VllmMaker

    return VllmMaker(models, "llama-mini")


@pytest.fixture
def any_model(maker: EngineMaker) -> EngineMaker:
    return maker
