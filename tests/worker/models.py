"""Small models."""

import json
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import save_file

from sllmreal.checkpoint import read_layout, save_checkpoint
from sllmreal.checkpoint.convert import WriteOptions
from sllmreal.control.deployment import ModelDeployment
from tests.worker.servers import MIB

CHUNK_BYTES = 2 << 20


@cache
def tensors(seed: int = 0, num_mib: int = 6) -> dict[str, torch.Tensor]:
    """Tensors of that many MiB together, random but for the seed."""
    generator = torch.Generator().manual_seed(seed)
    sizes = {f"layers.{n}.weight": (MIB // 4,) for n in range(num_mib)}
    return {name: torch.randn(size, generator=generator) for name, size in sizes.items()}


def native_model(
    directory: Path, name: str = "m", seed: int = 0, num_mib: int = 6
) -> ModelDeployment:
    """A model in the toolkit's format, of `num_mib` MiB: chunks of 2, 2, 2 for 6."""
    source = directory / f"{name}-{seed}"
    assets = directory / f"{name}-{seed}.assets"
    assets.mkdir()
    config = assets / "config.json"
    config.write_text('{"model_type": "none"}')
    save_checkpoint(tensors(seed, num_mib), source, WriteOptions(chunk_bytes=1 << 20), [config])
    return spec_of(source, name)


def safetensors_model(directory: Path, name: str = "m", seed: int = 0) -> ModelDeployment:
    """A directory with one safetensors file and a configuration."""
    source = directory / f"{name}-{seed}"
    source.mkdir()
    save_file(tensors(seed), source / "model.safetensors")
    (source / "config.json").write_text('{"model_type": "none"}')
    return spec_of(source, name)


def sharded_model(directory: Path, name: str = "m", seed: int = 0) -> ModelDeployment:
    """A directory with two safetensors files, their index and a configuration."""
    source = directory / f"{name}-{seed}"
    source.mkdir()
    names = sorted(tensors(seed))
    weight_map = {one: f"model-{1 + (n % 2)}.safetensors" for n, one in enumerate(names)}
    for file in set(weight_map.values()):
        shard = {one: tensors(seed)[one] for one in names if weight_map[one] == file}
        save_file(shard, source / file)
    index = {"metadata": {}, "weight_map": weight_map}
    (source / "model.safetensors.index.json").write_text(json.dumps(index))
    (source / "config.json").write_text('{"model_type": "none"}')
    return spec_of(source, name)


def spec_of(source: Path, name: str, *, url: str | None = None) -> ModelDeployment:
    return ModelDeployment(name, url or str(source), read_layout(source).size_bytes, 64, 1.0)
