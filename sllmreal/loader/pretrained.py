"""Causal language models of transformers, built on tensors of this loader."""

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
    """Load the model with the weights and `config.json` at `path`, in evaluation mode.

    The parameters are the loaded tensors themselves, except those that transformers fuses
    (experts). A CUDA device needs the package `accelerate`, as in transformers. Raises as
    `load_checkpoint`, and BadCheckpointError if there is no `config.json`.
    """
    kind = model_class(path)
    return assembled(kind, load_checkpoint(path, device, pool=pool), device)


@dataclass(frozen=True, slots=True)
class ModelClass:
    """A model class of transformers and the configuration of one model."""

    kind: "type[PreTrainedModel]"
    config: "PretrainedConfig"


def model_class(path: str | Path) -> ModelClass:
    """Return the model class for the `config.json` at `path`; no weights are read."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(_config_directory(read_layout(Path(path))))
    automatic: Any = AutoModelForCausalLM  # its methods have no annotations
    with torch.device("meta"):
        return ModelClass(type(automatic.from_config(config)), config)


def assembled(
    model: ModelClass, tensors: dict[str, torch.Tensor], device: Device
) -> "PreTrainedModel":
    """Build a model with `tensors`, which are on `device`, as its parameters."""
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
            raise BadCheckpointError(
                f"{directory} has no {_CONFIG} beside the weights: put the model's one there"
            )
        return directory
    if read_asset(layout, _CONFIG) is None:
        raise BadCheckpointError(
            f"{layout.path} has no {_CONFIG}: convert it again from a directory with one"
        )
    return layout.path / ASSET_DIRECTORY


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    """Disable the progress bar that transformers prints for every model."""
    from transformers.utils import logging as untyped

    logging: Any = untyped
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
