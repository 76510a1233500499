"""Loading checkpoints as dictionaries of tensors, or one tensor after another as they land.

load = open, plan, transfer, views:  nothing is copied on the CPU, once to each device.
"""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from sllmcore.errors import UsageError
from sllmreal.checkpoint.layout import Layout, TensorEntry
from sllmreal.checkpoint.source import opened_checkpoint
from sllmreal.loader.arrival import Arrivals
from sllmreal.loader.destination import FreshMemory, PoolMemory
from sllmreal.loader.device import CudaCopier, DeviceMemory, PoolChunks, pinned_ring
from sllmreal.loader.fill import Fill, filling
from sllmreal.loader.memory import reserve_image
from sllmreal.loader.pipeline import Cancellation
from sllmreal.loader.plan import ByteRange, plan_load
from sllmreal.loader.pool import ChunkPool
from sllmreal.loader.reading import opened_reader
from sllmreal.loader.resident import resident_check
from sllmreal.loader.shard import Shard, sliced, wanted_ranges
from sllmreal.loader.tensors import HostViews
from sllmreal.loader.transfer import DEFAULT_OPTIONS, LoadDestination, LoadOptions, Reader, transfer

Device = str | torch.device
Deliver = Callable[[TensorEntry, torch.Tensor], None]


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """Everything a load is asked for besides the checkpoint."""

    devices: tuple[torch.device, ...] = (torch.device("cpu"),)  # of partitions, in turn
    pool: ChunkPool | None = None
    shard: Shard | None = None
    options: LoadOptions = DEFAULT_OPTIONS
    cancellation: Cancellation | None = None


def load_checkpoint(
    path: str | Path,
    device: Device | Sequence[Device] = "cpu",
    *,
    pool: ChunkPool | None = None,
    shard: Shard | None = None,
    options: LoadOptions = DEFAULT_OPTIONS,
    cancellation: Cancellation | None = None,
) -> dict[str, torch.Tensor]:
    """All tensors of the checkpoint at `path`: our format, safetensors (sharded too), or a LoRA.

    On the CPU they are views of the memory that was read into: of the pool, where it stays for the
    next load, or of fresh memory. With several devices, partitions go to them in turn. Every hash
    is verified before this returns. Raises BadCheckpointError, CorruptCheckpointError,
    StorageError, PoolExhaustedError or LoadCancelledError, and leaves nothing behind then.
    """
    tensors: dict[str, torch.Tensor] = {}
    request = LoadRequest(chosen_devices(device), pool, shard, options, cancellation)

    def keep(entry: TensorEntry, tensor: torch.Tensor) -> None:
        tensors[entry.name] = tensor

    with opened_checkpoint(Path(path)) as opened, opened_reader(opened) as reader:
        load_layout(opened.layout, reader, request, keep)
        return {entry.name: tensors[entry.name] for entry in opened.layout.tensors}


def iter_tensors(
    path: str | Path,
    device: Device | Sequence[Device] = "cpu",
    *,
    pool: ChunkPool | None = None,
    shard: Shard | None = None,
    options: LoadOptions = DEFAULT_OPTIONS,
) -> Iterator[tuple[str, torch.Tensor]]:
    """The same tensors one by one, each as soon as its last byte has been verified.

    Closing the iterator early cancels the rest. An error is raised where it happened; what came
    before it is sound.
    """
    cancellation = Cancellation()
    request = LoadRequest(chosen_devices(device), pool, shard, options, cancellation)
    arrived: queue.SimpleQueue[tuple[str, torch.Tensor] | BaseException | None]
    arrived = queue.SimpleQueue()

    def load() -> None:
        try:
            with opened_checkpoint(Path(path)) as opened, opened_reader(opened) as reader:
                load_layout(
                    opened.layout,
                    reader,
                    request,
                    lambda entry, tensor: arrived.put((entry.name, tensor)),
                    keep_landed=True,
                )
            arrived.put(None)
        except BaseException as error:  # raised again by the consumer
            arrived.put(error)

    thread = threading.Thread(target=load, name="load", daemon=True)
    thread.start()
    try:
        while (item := arrived.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        cancellation.cancel()
        thread.join()


def load_layout(
    layout: Layout,
    reader: Reader,
    request: LoadRequest,
    deliver: Deliver,
    *,
    keep_landed: bool = False,
) -> None:
    """Load a checkpoint from any reader, delivering tensors as they become complete.

    `keep_landed`: tensors may have been used when an error comes, so that chunks of the pool that
    are verified by then stay resident.
    """
    device = request.devices[0]
    if device.type != "cpu" and request.shard is not None:
        # A device should hold the rank's slices only: they are cut on the host.
        on_host = replace(request, devices=(torch.device("cpu"),))
        load_layout(
            layout,
            reader,
            on_host,
            lambda entry, tensor: deliver(entry, tensor.contiguous().to(device)),
            keep_landed=keep_landed,
        )
    elif request.pool is not None:
        _load_through_pool(layout, reader, request, request.pool, deliver, keep_landed)
    elif device.type == "cpu":
        _load_fresh(layout, reader, request, deliver)
    else:
        _load_to_devices(layout, reader, request, deliver)


def chosen_devices(device: Device | Sequence[Device]) -> tuple[torch.device, ...]:
    given = [device] if isinstance(device, str | torch.device) else list(device)
    devices = tuple(torch.device(one) for one in given)
    kinds = {one.type for one in devices}
    if kinds not in ({"cpu"}, {"cuda"}):
        raise UsageError(f"devices must be the CPU or CUDA devices, got {given}")
    return devices


def wanted(layout: Layout, shard: Shard | None) -> list[list[ByteRange]] | None:
    """The bytes of each tensor that a rank needs; None for all of all."""
    if shard is None:
        return None
    return [wanted_ranges(tensor, shard) for tensor in layout.tensors]


def _load_fresh(layout: Layout, reader: Reader, request: LoadRequest, deliver: Deliver) -> None:
    plan = plan_load(layout, request.options.chunk_bytes, wanted(layout, request.shard))
    images = [reserve_image(part.size_bytes) for part in layout.partitions]
    views = HostViews(images)
    memory = FreshMemory(plan, images, request.options.num_faulters)
    _run(Fill(plan), reader, memory, request, (views.tensor, deliver))


def _load_to_devices(
    layout: Layout, reader: Reader, request: LoadRequest, deliver: Deliver
) -> None:
    options = request.options
    plan = plan_load(layout, options.chunk_bytes, wanted(layout, request.shard), interleaved=True)
    ring = pinned_ring(options.chunk_bytes, options.staging_chunks, layout)
    memory = DeviceMemory(plan, ring, request.devices, CudaCopier, options.num_copiers)
    _run(Fill(plan), reader, memory, request, (memory.tensor, deliver))


def _load_through_pool(
    layout: Layout,
    reader: Reader,
    request: LoadRequest,
    pool: ChunkPool,
    deliver: Deliver,
    keep_landed: bool,
) -> None:
    on_device = request.devices[0].type != "cpu"
    ranges = wanted(layout, request.shard)
    check = resident_check(pool, request.options)
    with filling(
        pool, layout, ranges, through=on_device, keep_landed=keep_landed, check=check
    ) as fill:
        if on_device:
            source = PoolChunks(fill.plan, pool, fill.chunks)
            copiers = request.options.num_copiers
            memory = DeviceMemory(fill.plan, source, request.devices, CudaCopier, copiers)
            view = memory.tensor
            destination: LoadDestination = memory
        else:
            view = HostViews(pool.window(layout, fill.chunks)).tensor
            destination = PoolMemory(fill.plan, pool, fill.chunks)
        _run(fill, reader, destination, request, (view, deliver))


def _run(
    fill: Fill,
    reader: Reader,
    destination: LoadDestination,
    request: LoadRequest,
    handing: tuple[Callable[[TensorEntry], torch.Tensor], Deliver],
) -> None:
    """Transfer, making and delivering each tensor of the plan when its last chunk has landed."""
    view, deliver = handing
    entries = fill.plan.layout.tensors

    def complete(number: int) -> None:
        entry = entries[number]
        tensor = view(entry)
        if request.shard is not None:
            tensor = sliced(tensor, entry, request.shard)
        deliver(entry, tensor)

    arrivals = Arrivals(fill.plan, complete)
    arrivals.begin()

    def land(position: int) -> None:
        fill.landed.add(fill.plan.reads[position].key)
        arrivals.land(position)

    transfer(fill, reader, destination, land, request.options, request.cancellation)
