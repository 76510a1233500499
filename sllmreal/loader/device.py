"""CUDA devices as the destination of a transfer: pinned chunks, one copy stream per device.

A partition is one allocation on its device and tensors are views of it. Bytes come from a pool that
is registered with the driver or, without a pool, pass through a ring of pinned chunks.
"""

import ctypes
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch

from sllmreal.checkpoint.dtypes import torch_dtype
from sllmreal.checkpoint.errors import StorageError
from sllmreal.checkpoint.layout import Layout, TensorEntry
from sllmreal.loader.errors import LoadCancelledError
from sllmreal.loader.pipeline import ChunkQueue, PipelineStage
from sllmreal.loader.plan import ChunkKey, LoadPlan
from sllmreal.loader.pool import ChunkPool
from sllmreal.loader.tensors import strided_view

_REGISTER_DEFAULT = 0
_ALREADY_REGISTERED = 712  # cudaErrorHostMemoryAlreadyRegistered


class ChunkSource(Protocol):
    """Host memory that holds a chunk before it is copied to a device.

    `keeps_chunks`: a chunk stays in place after the copy.
    """

    keeps_chunks: bool

    def take(self, position: int) -> int:
        """Return the address for a read; waits for a free place."""
        ...

    def host(self, position: int) -> torch.Tensor:
        """Return the bytes there, pinned: (chunk_bytes,) uint8."""
        ...

    def give_back(self, position: int) -> None:
        """Free the place: the copy is done."""
        ...

    def abort(self) -> None:
        """Wake threads that wait in `take`: the transfer failed."""
        ...


class StagingRing:
    """A few chunks of memory for the reads of a plan; each is free again after its copy."""

    keeps_chunks = False

    def __init__(self, memory: torch.Tensor, chunk_bytes: int) -> None:
        """`memory`: (num_chunks * chunk_bytes,) uint8, pinned for copies to a device."""
        self._memory = memory
        self._chunk_bytes = chunk_bytes
        num_chunks = memory.numel() // chunk_bytes
        self._free = ChunkQueue(num_chunks)
        for chunk in range(num_chunks):
            self._free.put(chunk)
        self._taken: dict[int, int] = {}

    def take(self, position: int) -> int:
        chunk = self._free.get()
        if chunk is None:
            raise LoadCancelledError("the load was stopped while it waited for a staging chunk")
        self._taken[position] = chunk
        return self._memory.data_ptr() + chunk * self._chunk_bytes

    def host(self, position: int) -> torch.Tensor:
        begin = self._taken[position] * self._chunk_bytes
        return self._memory[begin : begin + self._chunk_bytes]

    def give_back(self, position: int) -> None:
        self._free.put(self._taken.pop(position))

    def abort(self) -> None:
        self._free.abort()


class PoolChunks:
    """Chunks of the pool as the source: they stay in place and are not given back."""

    keeps_chunks = True

    def __init__(self, plan: LoadPlan, pool: ChunkPool, chunks: Mapping[ChunkKey, int]) -> None:
        self._plan = plan
        self._pool = pool
        self._chunks = chunks

    def take(self, position: int) -> int:
        return self._pool.chunk_address(self._chunks[self._plan.reads[position].key])

    def host(self, position: int) -> torch.Tensor:
        size_bytes = self._plan.chunk_bytes
        memory = (ctypes.c_char * size_bytes).from_address(self.take(position))
        return torch.frombuffer(memory, dtype=torch.uint8)

    def give_back(self, position: int) -> None:
        return

    def abort(self) -> None:
        return


class Copier(Protocol):
    """A copier of host bytes to one device."""

    def copy(self, target: torch.Tensor, host: torch.Tensor) -> None:
        """Copy `host` to `target` and return when the bytes are there."""
        ...


class CudaCopier:
    """A copy stream of a device, shared by two threads: one copies, one queues the next copy."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def copy(self, target: torch.Tensor, host: torch.Tensor) -> None:
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            target.copy_(host, non_blocking=True)
            done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
            done.record(self._stream)
        done.synchronize()


class DeviceMemory:
    """Flat memory per partition, on `devices` in turn, filled through `source`."""

    def __init__(
        self,
        plan: LoadPlan,
        source: ChunkSource,
        devices: Sequence[torch.device],
        make_copier: Callable[[torch.device], Copier],
        num_copiers: int,
    ) -> None:
        self._plan = plan
        self._source = source
        self._num_threads = num_copiers * len(set(devices))
        copiers = {device: make_copier(device) for device in set(devices)}
        of_partition = [
            devices[number % len(devices)] for number in range(len(plan.layout.partitions))
        ]
        self._copiers = [copiers[device] for device in of_partition]
        self.flat = [
            torch.empty(part.size_bytes, dtype=torch.uint8, device=device)
            for part, device in zip(plan.layout.partitions, of_partition, strict=True)
        ]

    @property
    def keeps_chunks(self) -> bool:
        return self._source.keeps_chunks

    def address(self, position: int) -> int:
        return self._source.take(position)

    def stages_before_read(self) -> Sequence[PipelineStage]:
        return ()

    def stages_after_read(self) -> Sequence[PipelineStage]:
        return (PipelineStage("copy", self._copy, self._num_threads),)

    def abort(self) -> None:
        self._source.abort()

    def _copy(self, position: int) -> None:
        read = self._plan.reads[position]
        number = read.key.partition
        target = self.flat[number][read.offset_bytes : read.offset_bytes + read.size_bytes]
        self._copiers[number].copy(target, self._source.host(position)[: read.size_bytes])
        self._source.give_back(position)

    def tensor(self, entry: TensorEntry) -> torch.Tensor:
        """Return the tensor as a view of the flat memory; misaligned elements are copied."""
        flat = self.flat[entry.partition] if self.flat else torch.empty(0, dtype=torch.uint8)
        return device_view(flat, entry)


def device_view(flat: torch.Tensor, entry: TensorEntry) -> torch.Tensor:
    """Return the tensor over a partition's bytes on a device; misaligned elements are copied."""
    dtype = torch_dtype(entry.dtype)
    if entry.empty:
        return torch.empty(entry.shape, dtype=dtype, device=flat.device)
    if entry.offset_bytes % dtype.itemsize:
        storage = flat[entry.offset_bytes : entry.offset_bytes + entry.size_bytes].clone()
        return strided_view(storage, entry, 0)
    return strided_view(flat, entry, entry.offset_bytes)


@contextmanager
def registered(pool: ChunkPool) -> Iterator[None]:
    """Pin the pool's memory for CUDA until the end: copies then run at the link's full speed.

    Takes a second per hundred gigabytes, so do it once per process. Raises StorageError.
    """
    memory = pool.memory  # stays mapped until it is unregistered, even if the pool is closed
    address = memory.image.address
    cudart = torch.cuda.cudart()  # type: ignore[no-untyped-call]
    code = int(cudart.cudaHostRegister(address, pool.size_bytes, _REGISTER_DEFAULT))
    if code not in (0, _ALREADY_REGISTERED):
        raise StorageError(f"cannot pin {pool.size_bytes} bytes of the pool: CUDA error {code}")
    try:
        yield
    finally:
        if code == 0:
            cudart.cudaHostUnregister(address)
        del memory


def pinned_ring(plan_chunk_bytes: int, num_chunks: int, layout: Layout) -> StagingRing:
    """Return a staging ring of pinned memory, not larger than the checkpoint needs."""
    needed = -(-layout.size_bytes // plan_chunk_bytes) + len(layout.partitions)
    memory = torch.empty(
        min(num_chunks, needed) * plan_chunk_bytes, dtype=torch.uint8, pin_memory=True
    )
    return StagingRing(memory, plan_chunk_bytes)
