"""Any causal language model of transformers, built on tensors that this loader loaded."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sllmreal.checkpoint.assets import read_asset
from sllmreal.checkpoint.errors import BadCheckpointError
from sllmreal.checkpoint.index import ASSET_DIRECTORY
from sllmreal.checkpoint.layout import Layout
from sllmreal.checkpoint.source import read_layout
from sllmreal.loader.load import Device, load_checkpoint
from sllmreal.loader.pool import ChunkPool

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

_CONFIG = "config.json"


def load_pretrained(
    path: str | Path, device: Device = "cpu", *, pool: ChunkPool | None = None
) -> "PreTrainedModel":
    """The model whose weights and `config.json` lie at `path`, in evaluation mode.

    Parameters are the loaded tensors themselves, in their dtypes, except where transformers joins
    several into one (fused experts). A CUDA device needs `accelerate`, as in transformers.
    """
    kind = model_class(path)
    return assembled(kind, load_checkpoint(path, device, pool=pool), device)


@dataclass(frozen=True, slots=True)
class ModelClass:
    """What to build: a class of transformers, and the configuration of one model."""

    kind: "type[PreTrainedModel]"
    config: "PretrainedConfig"


def model_class(path: str | Path) -> ModelClass:
    """The class that the `config.json` at `path` asks for; no weights are read."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(_config_directory(read_layout(Path(path))))
    automatic: Any = AutoModelForCausalLM  # its methods have no annotations
    with torch.device("meta"):
        return ModelClass(type(automatic.from_config(config)), config)


def assembled(
    model: ModelClass, tensors: dict[str, torch.Tensor], device: Device
) -> "PreTrainedModel":
    """A model whose parameters are `tensors`, which are on `device`."""
    placement: dict[str, Any] = (
        {} if torch.device(device).type == "cpu" else {"device_map": {"": str(device)}}
    )
    with _without_progress_bars():
        built = model.kind.from_pretrained(
            None, config=model.config, state_dict=tensors, dtype="auto", **placement
        )
    built.train(False)
    return built


def _config_directory(layout: Layout) -> Path:
    if layout.chunk_bytes is None:
        directory = layout.path if layout.path.is_dir() else layout.path.parent
        if not (directory / _CONFIG).is_file():
            raise BadCheckpointError(f"no {_CONFIG} beside the weights in {directory}")
        return directory
    if read_asset(layout, _CONFIG) is None:
        raise BadCheckpointError(f"{layout.path} was converted without a {_CONFIG}")
    return layout.path / ASSET_DIRECTORY


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    """transformers draws a bar on stderr for every model it assembles."""
    from transformers.utils import logging as untyped

    logging: Any = untyped
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
