"""The way from a checkpoint to an engine, with the time of each phase of that cold start.

While one thread reads the weights, the caller's thread imports transformers and builds the model's
class: the total is less than the sum of the phases.

    total = max(import + model object, weights) + assign + warm-up,  nearly
"""

import hashlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch

from sllmreal.checkpoint.source import read_layout
from sllmreal.engine.attention import use_grouped_attention
from sllmreal.engine.products import use_soonest_products
from sllmreal.engine.slots import SlotEngine
from sllmreal.engine.transformers_model import ModelOptions, TransformersModel
from sllmreal.loader import ChunkPool, load_checkpoint
from sllmreal.loader.load import Device
from sllmreal.loader.pretrained import assembled, model_class

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class ColdStart:
    """Times of the phases, in seconds. Import and model object overlap the load of the weights."""

    import_s: float  # transformers; 0 if it was imported before
    model_object_s: float  # the class and its configuration, without weights
    weights_s: float  # from the checkpoint into the device's memory, verified
    assign_s: float  # the model built around the weights
    warm_up_s: float  # the first forward pass
    total_s: float  # wall-clock time


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Options of an engine. `model` is the identity of the weights; None: that of the files."""

    num_slots: int = 8
    context_tokens: int | None = None
    prefill_chunk_tokens: int = 256
    model: str | None = None


@dataclass(frozen=True, slots=True)
class BuiltEngine:
    """A ready engine and its cold start."""

    engine: SlotEngine
    cold_start: ColdStart


def build_engine(
    path: str | Path,
    device: Device = "cpu",
    options: EngineOptions | None = None,
    *,
    pool: ChunkPool | None = None,
) -> BuiltEngine:
    """Load the model at `path` and make its engine.

    Raises:
        BadCheckpointError: There is no configuration.
        UsageError: The engine cannot run the model. What `load_checkpoint` raises is passed on.
    """
    began_s = time.perf_counter()
    with ThreadPoolExecutor(1, "weights") as reader:
        reading = reader.submit(_timed, lambda: load_checkpoint(path, device, pool=pool))
        _, import_s = _timed(_import_transformers)
        kind, model_object_s = _timed(lambda: model_class(path))
        weights, weights_s = reading.result()
    model, assign_s = _timed(lambda: assembled(kind, weights, device))
    engine, warm_up_s = _timed(lambda: _engine(path, model, options))
    total_s = time.perf_counter() - began_s
    cold_start = ColdStart(
        import_s=import_s,
        model_object_s=model_object_s,
        weights_s=weights_s,
        assign_s=assign_s,
        warm_up_s=warm_up_s,
        total_s=total_s,
    )
    return BuiltEngine(engine, cold_start)


def engine_of(
    path: str | Path, weights: dict[str, torch.Tensor], options: EngineOptions | None = None
) -> SlotEngine:
    """Make the engine of a model with its `weights` already in memory, which are used as they are.

    The configuration comes from `path`. Raises as `build_engine`.
    """
    return _engine(path, assembled(model_class(path), weights, "cpu"), options)


def _engine(
    path: str | Path, model: "PreTrainedModel", options: EngineOptions | None
) -> SlotEngine:
    chosen = options or EngineOptions()
    use_grouped_attention(model)
    use_soonest_products(model)
    identity = chosen.model or weights_identity(path)
    described = ModelOptions(identity, chosen.num_slots, chosen.context_tokens)
    ready = TransformersModel(model, described)
    return SlotEngine(ready, prefill_chunk_tokens=chosen.prefill_chunk_tokens)


def weights_identity(path: str | Path) -> str:
    """Return an identity of the weights: their hashes, or path, size and time of the files."""
    layout = read_layout(Path(path))
    digest = hashlib.sha256()
    hashed = all(part.sha256 for part in layout.partitions)
    directory = layout.path if layout.path.is_dir() else layout.path.parent
    for part in layout.partitions:
        if hashed:
            digest.update(part.sha256.encode())
        else:
            status = (directory / part.file).stat()
            place = f"{(directory / part.file).resolve()} {status.st_size} {status.st_mtime_ns}"
            digest.update(place.encode())
    return f"{'sha256' if hashed else 'files'}:{digest.hexdigest()[:32]}"


def _timed(make: Callable[[], Made]) -> tuple[Made, float]:
    """Return what `make` returns, and its duration in seconds."""
    began_s = time.perf_counter()
    made = make()
    return made, time.perf_counter() - began_s


def _import_transformers() -> None:
    """Import what every family of models imports; a family's own module is small."""
    from transformers import (  # noqa: F401
        AutoConfig,
        AutoModelForCausalLM,
        GenerationMixin,
        PreTrainedModel,
        modeling_layers,
    )
