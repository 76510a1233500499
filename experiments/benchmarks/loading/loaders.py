"""The compared loaders, each as a function from a prepared model to its tensors."""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from experiments.benchmarks.loading.breakdown import ALL_STEPS, STEPS
from experiments.benchmarks.loading.models import PreparedModel
from experiments.benchmarks.loading.row import LORA
from sllmreal.loader import ChunkPool, load_checkpoint

Tensors = Iterable[torch.Tensor]
POOL_LOADERS = ("ours pool", "ours pool safetensors")


class NamedLoader:
    """A loader by its name, with its pool if it needs one."""

    def __init__(self, name: str, pool: ChunkPool | None, device: str) -> None:
        self.name = name
        self._pool = pool
        self._device = device
        self._open = ExitStack()  # resources of the last load's tensors

    def load(self, model: PreparedModel) -> Tensors:
        """Load the model. Before the next load, drop the tensors and call `release`."""
        if self.name in STEPS:
            return STEPS[self.name](model)
        if self.name.startswith("ours"):
            path = model.safetensors if self.name.endswith("safetensors") else model.native
            return load_checkpoint(path, self._device, pool=self._pool).values()
        return _PEERS[self.name](model, self._device, self._open)

    def release(self) -> None:
        """Close the resources of the last load."""
        self._open.close()

    def forget(self) -> None:
        """Empty the pool, so that the next load is cold."""
        if self._pool is not None:
            for identity in self._pool.status().resident_bytes:
                self._pool.evict(identity)


def _torch_load(model: PreparedModel, device: str, _: ExitStack) -> Tensors:
    loaded: dict[str, torch.Tensor] = torch.load(model.pickled, map_location=device)
    return loaded.values()


def _torch_mmap(model: PreparedModel, device: str, _: ExitStack) -> Tensors:
    loaded: dict[str, torch.Tensor] = torch.load(model.pickled, map_location=device, mmap=True)
    return loaded.values()


def _safetensors(model: PreparedModel, device: str, _: ExitStack) -> Tensors:
    loaded: dict[str, torch.Tensor] = import_module("safetensors.torch").load_file(
        model.safetensors, device=device
    )
    return loaded.values()


def _transformers(model: PreparedModel, device: str, _: ExitStack) -> Tensors:
    automatic: Any = import_module("transformers").AutoModelForCausalLM
    loaded = automatic.from_pretrained(model.directory, dtype="auto").to(device)
    return [tensor.detach() for tensor in loaded.parameters()]


def _runai(model: PreparedModel, device: str, _: ExitStack) -> Tensors:
    streamer_class = import_module("runai_model_streamer").SafetensorsStreamer
    with streamer_class() as streamer:
        streamer.stream_file(str(model.safetensors))
        # The streamer reuses its buffer, so its users have to copy a tensor that they keep.
        return [tensor.to(device, copy=True) for _, tensor in streamer.get_tensors()]


def _fastsafetensors(model: PreparedModel, device: str, stack: ExitStack) -> Tensors:
    package = import_module("fastsafetensors")
    loader = package.SafeTensorsFileLoader(package.SingleGroup(), device, nogds=True)
    stack.callback(loader.close)
    loader.add_filenames({0: [str(model.safetensors)]})
    files = loader.copy_files_to_device()
    stack.callback(files.close)
    return [files.get_tensor(key) for key in files.key_to_rank_lidx]


def _tensorizer(model: PreparedModel, device: str, stack: ExitStack) -> Tensors:
    package = import_module("tensorizer")
    file = _tensorizer_file(model)
    deserializer = package.TensorDeserializer(str(file), device=device, num_readers=4)
    stack.callback(deserializer.close)
    return [deserializer[key] for key in deserializer]


def _tensorizer_file(model: PreparedModel) -> Path:
    return model.directory.parent / "model.tensors"


def prepare_tensorizer(model: PreparedModel) -> None:
    """Write tensorizer's own format once."""
    file = _tensorizer_file(model)
    if not file.exists():
        tensors = import_module("safetensors.torch").load_file(model.safetensors)
        serializer = import_module("tensorizer").TensorSerializer(str(file))
        serializer.write_state_dict(tensors)
        serializer.close()


_PEERS: dict[str, Callable[[PreparedModel, str, ExitStack], Tensors]] = {
    "torch.load": _torch_load,
    "torch.load mmap": _torch_mmap,
    "safetensors": _safetensors,
    "transformers": _transformers,
    "runai": _runai,
    "fastsafetensors": _fastsafetensors,
    "tensorizer": _tensorizer,
}
_PACKAGES = {
    "runai": "runai_model_streamer",
    "fastsafetensors": "fastsafetensors",
    "tensorizer": "tensorizer",
}


def files_read(loader: str, model: PreparedModel) -> list[Path]:
    """Return the files that the loader reads."""
    if loader in ALL_STEPS or loader in ("ours", "ours pool"):
        return sorted(model.native.glob("partition-*.bin"))
    if loader.startswith("torch.load"):
        return [model.pickled]
    if loader == "tensorizer":
        return [_tensorizer_file(model)]
    return [model.safetensors]


OURS = ("ours pool", "ours pool safetensors", "ours", "ours safetensors")


def available(model: str) -> list[str]:
    """Return the installed loaders that can load the model, this project's first."""
    peers = [
        name
        for name in _PEERS
        if (name not in _PACKAGES or find_spec(_PACKAGES[name]) is not None)
        and (name != "transformers" or model != LORA)
    ]
    return [*OURS, *peers]
