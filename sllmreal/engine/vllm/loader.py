"""vLLM's load format `sllm`: weights come from the worker's DRAM pool, mapped into this process.

Every rank maps the one copy in the pool. vLLM's own weight loaders take from it the slices that
the rank keeps, so a tensor-parallel rank reads its share of the bytes only.
"""

from collections.abc import Iterator
from typing import Any

import msgspec
import torch
from torch import nn
from vllm.config import ModelConfig
from vllm.config.load import LoadConfig
from vllm.model_executor.model_loader import register_model_loader
from vllm.model_executor.model_loader.base_loader import BaseModelLoader

from sllmreal.engine.mapped_weights import mapped_weights
from sllmreal.engine.weights import Weights

LOAD_FORMAT = "sllm"
WEIGHTS_KEY = "weights"  # in model_loader_extra_config: an encoded `Weights`


def encoded_weights(weights: Weights) -> str:
    """Return `weights` as text, for ranks in other processes."""
    return msgspec.json.encode(weights).decode()


@register_model_loader(LOAD_FORMAT)  # type: ignore[untyped-decorator]
class PoolWeightsLoader(BaseModelLoader):  # type: ignore[misc]
    """Copies an instance's weights from the worker's pool into a model that vLLM has built."""

    def __init__(self, load_config: LoadConfig) -> None:
        super().__init__(load_config)
        encoded = load_config.model_loader_extra_config[WEIGHTS_KEY]
        self._weights = msgspec.json.decode(encoded, type=Weights)

    def download_model(self, model_config: ModelConfig) -> None:
        """Do nothing: the worker has loaded the weights before the engine starts."""

    def load_weights(self, model: nn.Module, model_config: ModelConfig) -> None:
        load: Any = model.load_weights
        load(pool_tensors(self._weights))


def pool_tensors(weights: Weights) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the name and a view of each tensor in the worker's pool."""
    yield from mapped_weights(weights).tensors.items()
