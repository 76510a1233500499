"""Factories of engines for tests and campaigns; all engines of one factory share their weights."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch

from sllmreal.engine.attention import use_grouped_attention
from sllmreal.engine.products import use_soonest_products
from sllmreal.engine.protocol import Engine
from sllmreal.engine.samples import write_sample
from sllmreal.engine.slots import SlotEngine
from sllmreal.engine.timed import TimedOptions, timed_engine
from sllmreal.engine.transformers_model import ModelOptions, TransformersModel
from sllmreal.loader.pretrained import load_pretrained

if TYPE_CHECKING:
    from transformers import PreTrainedModel

VOCABULARY = 1024


class EngineMaker(Protocol):
    """A factory of engines with the same weights."""

    def __call__(
        self, *, num_slots: int = 4, context_tokens: int = 128, chunk_tokens: int = 8
    ) -> Engine: ...


class TimedMaker:
    """A factory of timed engines that take no time."""

    def __call__(
        self, *, num_slots: int = 4, context_tokens: int = 128, chunk_tokens: int = 8
    ) -> Engine:
        return timed_engine(
            TimedOptions(
                context_tokens=context_tokens,
                num_slots=num_slots,
                vocab_size=VOCABULARY,
                prefill_chunk_tokens=chunk_tokens,
            )
        )


@dataclass(frozen=True, slots=True)
class TransformersMaker:
    """A factory of engines of one sample model, written under `directory` and loaded once."""

    directory: Path
    name: str
    dtype: torch.dtype = torch.float32
    device: str = "cpu"

    @property
    def model(self) -> "PreTrainedModel":
        """The loaded model, which all engines of this factory share."""
        return loaded_sample(self.directory, self.name, self.dtype, self.device)

    def __call__(
        self, *, num_slots: int = 4, context_tokens: int = 128, chunk_tokens: int = 8
    ) -> Engine:
        options = ModelOptions(self.name, num_slots, context_tokens)
        model = TransformersModel(self.model, options)
        return SlotEngine(model, prefill_chunk_tokens=chunk_tokens)


@functools.cache
def loaded_sample(
    directory: Path, name: str, dtype: torch.dtype, device: str = "cpu"
) -> "PreTrainedModel":
    """Write the sample model if it is missing; load it with the engine's attention and products."""
    path = directory / f"{name}-{dtype}".replace("torch.", "")
    if not path.exists():
        write_sample(path, name, dtype=dtype)
    model = load_pretrained(path, device)
    use_grouped_attention(model)
    use_soonest_products(model)
    return model
