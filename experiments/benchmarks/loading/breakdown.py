"""The steps from a naive loader to this one, each a loader of its own (Figure 7).

by tensor -> bulk -> direct -> threads -> pool (pre-faulted huge pages) -> pipeline. Every step
verifies the hashes; only the last one does so while it reads.
"""

import mmap
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import torch

from experiments.benchmarks.loading.models import PreparedModel
from sllmreal.checkpoint.layout import Layout
from sllmreal.checkpoint.source import read_layout
from sllmreal.loader import ChunkPool, load_checkpoint
from sllmreal.loader.memory import buffer_at
from sllmreal.loader.plan import DEFAULT_CHUNK_BYTES, ChunkRead, plan_load
from sllmreal.loader.transfer import verify_chunk

Tensors = Iterable[torch.Tensor]
_THREADS = 8


def by_tensor(model: PreparedModel) -> Tensors:
    """Read each tensor with a buffered read, into fresh memory."""
    layout = read_layout(model.native)
    memory = [_small_pages(part.size_bytes) for part in layout.partitions]
    for tensor in layout.tensors:
        fd = os.open(model.native / layout.partitions[tensor.partition].file, os.O_RDONLY)
        try:
            _read(fd, memory[tensor.partition], tensor.offset_bytes, tensor.size_bytes)
        finally:
            os.close(fd)
    return _verified(layout, memory)


def bulk(model: PreparedModel) -> Tensors:
    """Read chunks of the file instead of tensors."""
    return _chunks(model, 0, 1)


def direct(model: PreparedModel) -> Tensors:
    """Read chunks with direct I/O."""
    return _chunks(model, os.O_DIRECT, 1)


def threads(model: PreparedModel) -> Tensors:
    """Read chunks with direct I/O and several threads."""
    return _chunks(model, os.O_DIRECT, _THREADS)


def _chunks(model: PreparedModel, flags: int, num_threads: int) -> Tensors:
    layout = read_layout(model.native)
    memory = [_small_pages(part.size_bytes) for part in layout.partitions]
    _read_chunks(
        model=model,
        layout=layout,
        flags=flags,
        num_threads=num_threads,
        addresses=[_address(one) for one in memory],
    )
    return _verified(layout, memory)


def _read_chunks(
    model: PreparedModel, layout: Layout, flags: int, num_threads: int, addresses: list[int]
) -> None:
    for number, part in enumerate(layout.partitions):
        fd = os.open(model.native / part.file, os.O_RDONLY | flags)

        def read(one: ChunkRead, fd: int = fd) -> None:
            target = buffer_at(addresses[one.key.partition] + one.offset_bytes, one.size_bytes)
            done = 0
            while done < one.size_bytes:
                done += os.preadv(fd, [target[done:]], one.offset_bytes + done)

        reads = [one for one in plan_load(layout).reads if one.key.partition == number]
        try:
            with ThreadPoolExecutor(num_threads) as pool:
                list(pool.map(read, reads))
        finally:
            os.close(fd)


def _small_pages(size_bytes: int) -> mmap.mmap:
    memory = mmap.mmap(-1, max(size_bytes, 1), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    return memory


def _address(memory: mmap.mmap) -> int:
    return torch.frombuffer(memory, dtype=torch.uint8).data_ptr()


def _read(fd: int, memory: mmap.mmap, offset: int, size_bytes: int) -> None:
    view = memoryview(memory)[offset : offset + size_bytes]
    done = 0
    while done < size_bytes:
        done += os.preadv(fd, [view[done:]], offset + done)


def _verified(layout: Layout, memory: list[mmap.mmap]) -> Tensors:
    addresses = [_address(one) for one in memory]
    for read in plan_load(layout, DEFAULT_CHUNK_BYTES).reads:
        verify_chunk(layout, read, addresses[read.key.partition] + read.offset_bytes)
    return [torch.frombuffer(one, dtype=torch.uint8) for one in memory]


class PoolSteps:
    """The last two steps, which share a pool that is created before the measurement."""

    def __init__(self, pool: ChunkPool) -> None:
        self._pool = pool

    def pool(self, model: PreparedModel) -> Tensors:
        """Read all chunks into the pool, then verify them."""
        layout = read_layout(model.native)
        assert len(layout.partitions) == 1, "the benchmark's models have one partition"
        _read_chunks(
            model=model,
            layout=layout,
            flags=os.O_DIRECT,
            num_threads=_THREADS,
            addresses=[self._pool.address],
        )
        for read in plan_load(layout).reads:
            verify_chunk(layout, read, self._pool.address + read.offset_bytes)
        return ()

    def pipeline(self, model: PreparedModel) -> Tensors:
        """Load through the pool: chunks are verified while others are read."""
        return load_checkpoint(model.native, pool=self._pool).values()


STEPS: dict[str, Callable[[PreparedModel], Tensors]] = {
    "step 1 by tensor": by_tensor,
    "step 2 bulk": bulk,
    "step 3 direct": direct,
    "step 4 threads": threads,
}
POOL_STEPS = ("step 5 pool", "step 6 pipeline")
ALL_STEPS = (*STEPS, *POOL_STEPS)


def gains(seconds: dict[str, float]) -> dict[str, float]:
    """Return each step's speed-up over the step before, and their product as `product`."""
    steps = [step for step in ALL_STEPS if step in seconds]
    each = {later: seconds[earlier] / seconds[later] for earlier, later in pairwise(steps)}
    return each | {"product": seconds[steps[0]] / seconds[steps[-1]]}
