"""An instance's weights as tensors: views of a worker's pool, in its process or another one."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from sllmreal.checkpoint.errors import StorageError
from sllmreal.checkpoint.layout import Layout
from sllmreal.checkpoint.source import read_layout
from sllmreal.engine.weights import Weights
from sllmreal.loader.plan import ChunkKey
from sllmreal.loader.pool import ChunkPool
from sllmreal.loader.tensors import HostViews
from sllmreal.loader.window import map_window


@dataclass(frozen=True, slots=True)
class MappedWeights:
    """Tensors by name. Their memory stays mapped while one of them lives."""

    layout: Layout
    tensors: dict[str, torch.Tensor]


def mapped_weights(weights: Weights, pool: ChunkPool | None = None) -> MappedWeights:
    """Return the tensors, without a copy. A write to one changes neither the pool nor other views.

    In the worker's own process `pool` is given, which then knows that its chunks are in use; in
    another process the pool's memory is reached through the worker, of the same user.

    Raises:
        StorageError: The worker is gone, or its memory cannot be mapped.
    """
    layout = replace(read_layout(Path(weights.directory)), identity=weights.identity)
    chunks = {ChunkKey(place.partition, place.number): place.chunk for place in weights.places}
    if pool is not None:
        images = pool.window(layout, chunks)
    else:
        pool_fd = _opened_pool(weights)
        try:
            images = map_window(layout, weights.chunk_bytes, pool_fd, chunks)
        finally:
            os.close(pool_fd)
    views = HostViews(images)
    return MappedWeights(layout, {entry.name: views.tensor(entry) for entry in layout.tensors})


def _opened_pool(weights: Weights) -> int:
    path = f"/proc/{weights.pool_pid}/fd/{weights.pool_fd}"
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise StorageError(f"the worker's pool cannot be opened: {error}") from error
