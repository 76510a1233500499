"""Loads of checkpoints: a dictionary of tensors, or an iterator over tensors as they arrive.

A load opens the checkpoint, plans its reads, transfers the bytes and makes tensors as views of
them: no copy on the CPU, one copy to a device.
"""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from sllmcore.errors import UsageError
from sllmreal.checkpoint.errors import ClosedError
from sllmreal.checkpoint.layout import Layout, TensorEntry
from sllmreal.checkpoint.source import opened_checkpoint
from sllmreal.loader.destination import FreshMemory, PoolMemory
from sllmreal.loader.device import CudaCopier, DeviceMemory, PoolChunks, pinned_ring
from sllmreal.loader.errors import LoadCancelledError
from sllmreal.loader.fill import Fill, filling
from sllmreal.loader.memory import reserve_image
from sllmreal.loader.pipeline import Cancellation, either
from sllmreal.loader.plan import Arrivals, ByteRange, plan_load
from sllmreal.loader.pool import ChunkPool
from sllmreal.loader.reading import opened_reader
from sllmreal.loader.resident import resident_check
from sllmreal.loader.shard import Shard, sliced, wanted_ranges
from sllmreal.loader.tensors import HostViews
from sllmreal.loader.transfer import (
    DEFAULT_OPTIONS,
    LoadDestination,
    LoadOptions,
    PartitionReader,
    transfer,
)

Device = str | torch.device
Deliver = Callable[[TensorEntry, torch.Tensor], None]


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """The parameters of a load besides the checkpoint."""

    devices: tuple[torch.device, ...] = (torch.device("cpu"),)  # partitions go to them in turn
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
    """Load all tensors of the checkpoint at `path`: our format, safetensors or a LoRA.

    Every hash is verified. CPU tensors are views of the memory that was read into: fresh memory,
    or chunks of `pool`, where they stay for the next load. Writing to a tensor does not change the
    pool.

    Args:
        path: A directory, or a safetensors file.
        device: The device, or several; partitions go to them in turn.
        pool: Memory to load into and to find resident chunks in.
        shard: The rank to load the slices of; None loads whole tensors.
        options: Threads and sizes.
        cancellation: A handle to cancel the load from another thread.

    Raises BadCheckpointError, CorruptCheckpointError, StorageError, PoolExhaustedError,
    LoadCancelledError or ClosedError (of the pool); the pool is unchanged then.
    """
    tensors: dict[str, torch.Tensor] = {}
    request = LoadRequest(
        devices=chosen_devices(device),
        pool=pool,
        shard=shard,
        options=options,
        cancellation=cancellation,
    )

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
    """Load a checkpoint and yield each tensor as soon as its last byte is verified.

    Closing the iterator cancels the rest of the load. An error is raised after the tensors that
    arrived before it; these are verified and may be used. After `pool.close()` the iterator raises
    ClosedError. Arguments as in `load_checkpoint`.
    """
    cancellation = Cancellation()
    request = LoadRequest(
        devices=chosen_devices(device),
        pool=pool,
        shard=shard,
        options=options,
        cancellation=cancellation,
    )
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
        except BaseException as error:  # raised again in the iterator's thread
            arrived.put(error)

    thread = threading.Thread(target=load, name="load", daemon=True)
    thread.start()
    try:
        while (item := arrived.get()) is not None:
            if pool is not None:
                pool.check_open()
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        cancellation.cancel()
        thread.join()


def load_layout(
    layout: Layout,
    reader: PartitionReader,
    request: LoadRequest,
    deliver: Deliver,
    *,
    keep_landed: bool = False,
) -> None:
    """Load a checkpoint from any reader; call `deliver` with each tensor when it is complete.

    `keep_landed`: after an error, verified chunks stay resident in the pool, because the caller may
    already use their tensors.
    """
    device = request.devices[0]
    if device.type != "cpu" and request.shard is not None:
        # The device holds only the rank's slices, so they are cut on the host.
        on_host = replace(request, devices=(torch.device("cpu"),))
        load_layout(
            layout,
            reader,
            on_host,
            lambda entry, tensor: deliver(entry, tensor.contiguous().to(device)),
            keep_landed=keep_landed,
        )
    elif request.pool is not None:
        _load_through_pool(
            layout=layout,
            reader=reader,
            request=request,
            pool=request.pool,
            deliver=deliver,
            keep_landed=keep_landed,
        )
    elif device.type == "cpu":
        _load_fresh(layout, reader, request, deliver)
    else:
        _load_to_devices(layout, reader, request, deliver)


def chosen_devices(device: Device | Sequence[Device]) -> tuple[torch.device, ...]:
    """Return the devices of a load. Raises UsageError unless all are the CPU, or all CUDA."""
    given = [device] if isinstance(device, str | torch.device) else list(device)
    devices = tuple(torch.device(one) for one in given)
    kinds = {one.type for one in devices}
    if kinds not in ({"cpu"}, {"cuda"}):
        raise UsageError(f"devices must be the CPU or CUDA devices, got {given}")
    return devices


def shard_ranges(layout: Layout, shard: Shard | None) -> list[list[ByteRange]] | None:
    """Return the ranges of each tensor that a rank needs; None: all bytes of all tensors."""
    if shard is None:
        return None
    return [wanted_ranges(tensor, shard) for tensor in layout.tensors]


def _load_fresh(
    layout: Layout, reader: PartitionReader, request: LoadRequest, deliver: Deliver
) -> None:
    plan = plan_load(layout, request.options.chunk_bytes, shard_ranges(layout, request.shard))
    images = [reserve_image(part.size_bytes) for part in layout.partitions]
    views = HostViews(images)
    memory = FreshMemory(plan, images, request.options.num_faulters)
    _run(
        fill=Fill(plan),
        reader=reader,
        destination=memory,
        request=request,
        view=views.tensor,
        deliver=deliver,
    )


def _load_to_devices(
    layout: Layout, reader: PartitionReader, request: LoadRequest, deliver: Deliver
) -> None:
    options = request.options
    plan = plan_load(
        layout, options.chunk_bytes, shard_ranges(layout, request.shard), interleaved=True
    )
    ring = pinned_ring(options.chunk_bytes, options.staging_chunks, layout)
    memory = DeviceMemory(
        plan=plan,
        source=ring,
        devices=request.devices,
        make_copier=CudaCopier,
        num_copiers=options.num_copiers,
    )
    _run(
        fill=Fill(plan),
        reader=reader,
        destination=memory,
        request=request,
        view=memory.tensor,
        deliver=deliver,
    )


def _load_through_pool(
    layout: Layout,
    reader: PartitionReader,
    request: LoadRequest,
    pool: ChunkPool,
    deliver: Deliver,
    keep_landed: bool,
) -> None:
    try:
        with either(request.cancellation, pool.closing) as cancellation:
            joint = replace(request, cancellation=cancellation)
            _fill_pool(
                layout=layout,
                reader=reader,
                request=joint,
                pool=pool,
                deliver=deliver,
                keep_landed=keep_landed,
            )
    except LoadCancelledError as error:
        if pool.closed:
            raise ClosedError("the pool is closed: it was closed during the load") from error
        raise


def _fill_pool(
    layout: Layout,
    reader: PartitionReader,
    request: LoadRequest,
    pool: ChunkPool,
    deliver: Deliver,
    keep_landed: bool,
) -> None:
    on_device = request.devices[0].type != "cpu"
    ranges = shard_ranges(layout, request.shard)
    check = resident_check(pool, request.options)
    with filling(
        pool, layout, ranges, to_device=on_device, keep_landed=keep_landed, check=check
    ) as fill:
        if on_device:
            source = PoolChunks(fill.plan, pool, fill.chunks)
            copiers = request.options.num_copiers
            memory = DeviceMemory(
                plan=fill.plan,
                source=source,
                devices=request.devices,
                make_copier=CudaCopier,
                num_copiers=copiers,
            )
            view = memory.tensor
            destination: LoadDestination = memory
        else:
            view = HostViews(pool.window(layout, fill.chunks)).tensor
            destination = PoolMemory(fill.plan, pool, fill.chunks)
        _run(
            fill=fill,
            reader=reader,
            destination=destination,
            request=request,
            view=view,
            deliver=deliver,
        )


def _run(
    fill: Fill,
    reader: PartitionReader,
    destination: LoadDestination,
    request: LoadRequest,
    view: Callable[[TensorEntry], torch.Tensor],
    deliver: Deliver,
) -> None:
    """Transfer the plan's chunks; make and deliver each tensor when its last chunk has landed."""
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

    transfer(
        fill=fill,
        reader=reader,
        destination=destination,
        landed=land,
        options=request.options,
        cancellation=request.cancellation,
    )
