"""Engines to test: every law of the contract holds for each of them."""

from pathlib import Path

import pytest
import torch

from experiments.campaigns.engine.makers import EngineMaker, TimedMaker, TransformersMaker

KINDS = ("timed", "falcon", "llama", "opt", "qwen")


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of sample models, each written once."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(params=KINDS)
def maker(request: pytest.FixtureRequest, models: Path) -> EngineMaker:
    """A maker of engines of one kind and of the same weights."""
    return maker_of(request.param, models)


@pytest.fixture(params=("timed", "llama"))
def any_model(request: pytest.FixtureRequest, models: Path) -> EngineMaker:
    """A maker for laws of the slot engine alone, whatever the model."""
    return maker_of(request.param, models)


def maker_of(kind: str, models: Path) -> EngineMaker:
    return TimedMaker() if kind == "timed" else TransformersMaker(models, f"{kind}-tiny")
