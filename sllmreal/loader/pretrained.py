"""Any causal language model of transformers, built on tensors that this loader loaded."""

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
    from transformers import PreTrainedModel

_CONFIG = "config.json"


def load_pretrained(
    path: str | Path, device: Device = "cpu", *, pool: ChunkPool | None = None
) -> "PreTrainedModel":
    """The model whose weights and `config.json` lie at `path`, in evaluation mode.

    Parameters are the loaded tensors themselves, in their dtypes, except where transformers joins
    several into one (fused experts). A CUDA device needs `accelerate`, as in transformers.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    layout = read_layout(Path(path))
    config = AutoConfig.from_pretrained(_config_directory(layout))
    tensors = load_checkpoint(path, device, pool=pool)
    placement = {} if torch.device(device).type == "cpu" else {"device_map": {"": str(device)}}
    automatic: Any = AutoModelForCausalLM  # its methods have no annotations
    with torch.device("meta"):
        kind = type(automatic.from_config(config))
    model: PreTrainedModel = kind.from_pretrained(
        None, config=config, state_dict=tensors, dtype="auto", **placement
    )
    model.train(False)
    return model


def _config_directory(layout: Layout) -> Path:
    if layout.chunk_bytes is None:
        directory = layout.path if layout.path.is_dir() else layout.path.parent
        if not (directory / _CONFIG).is_file():
            raise BadCheckpointError(f"no {_CONFIG} beside the weights in {directory}")
        return directory
    if read_asset(layout, _CONFIG) is None:
        raise BadCheckpointError(f"{layout.path} was converted without a {_CONFIG}")
    return layout.path / ASSET_DIRECTORY
