"""Faults of real tiers: no wrong byte is served, and no byte is left behind."""

import asyncio
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from sllmcore.errors import ControlError, UsageError
from sllmcore.types import DRAM, REMOTE, SSD, Residency
from sllmreal.checkpoint.errors import CorruptCheckpointError, StorageError
from sllmreal.control.deployment import ModelDeployment
from sllmreal.loader.errors import PoolExhaustedError
from sllmreal.loader.plan import ChunkRead
from sllmreal.loader.reading import ChunkReader
from tests.loader.range_server import Behaviour, serving
from tests.worker.models import native_model, safetensors_model, spec_of
from tests.worker.servers import MIB, small_server
from tests.worker.tier_bench import (
    BOTH,
    came_from,
    check_tensors,
    copies_in,
    load,
    opened,
    run,
    stop,
)


@pytest.mark.parametrize("nth_read", [1, 2, 3])
def test_a_load_cancelled_at_any_chunk_leaves_no_bytes(
    tmp_path: Path, nth_read: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = native_model(tmp_path)
    held_up = DelayedRead(monkeypatch, nth_read)

    async def scenario() -> None:
        async with opened(tmp_path) as storage:
            storage.begin("i1", model, BOTH)
            loading = asyncio.create_task(storage.load("i1"))
            await asyncio.to_thread(held_up.reached.wait, 10)
            stop(storage, "i1", acknowledged=False)
            loading.cancel()
            held_up.go_on.set()
            await storage.settled()

            with pytest.raises(asyncio.CancelledError):
                await loading
            assert storage.resident() == ()
            status = storage.pool.status()
            assert status.resident_bytes == {} and status.num_free == status.num_chunks
            assert copies_in(tmp_path) == []
            check_tensors(storage, await load(storage, model, BOTH, "i2"))

    run(scenario)


class DelayedRead:
    """Reads of chunks, of which the nth waits for `go_on`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, nth: int) -> None:
        self.reached, self.go_on = threading.Event(), threading.Event()
        lock, read = threading.Lock(), ChunkReader.read_into
        num_read = 0

        def counted(reader: ChunkReader, chunk: ChunkRead, address: int) -> None:
            nonlocal num_read
            with lock:
                num_read += 1
                last = num_read == nth
            if last:
                self.reached.set()
                self.go_on.wait(10)
            read(reader, chunk, address)

        monkeypatch.setattr(ChunkReader, "read_into", counted)


def test_a_load_waits_for_the_chunks_of_a_load_that_is_being_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seeded bug: without `settled` at the start of a load the second finds the pool full."""
    first, second = native_model(tmp_path, "a", 1, 8), native_model(tmp_path, "b", 2, 8)
    server = small_server(num_gpus=1, gpu_memory_bytes=8 * MIB, dram_bytes=0)
    held_up = DelayedRead(monkeypatch, 1)
    monkeypatch.setattr("sllmreal.worker.tiers._ROUNDING_CHUNKS", 0)

    async def scenario() -> None:
        async with opened(tmp_path, server) as storage:
            storage.begin("i1", first, ())
            loading = asyncio.create_task(storage.load("i1"))
            await asyncio.to_thread(held_up.reached.wait, 10)
            stop(storage, "i1", acknowledged=False)
            loading.cancel()
            asyncio.get_running_loop().call_later(0.05, held_up.go_on.set)
            result = await load(storage, second, (), "i2")
            assert came_from(result) == (REMOTE, 8 * MIB)

    run(scenario)


@pytest.mark.parametrize("make", [native_model, safetensors_model])
def test_a_corrupt_chunk_on_the_ssd_is_fetched_again_and_replaced(
    tmp_path: Path, make: Callable[[Path], ModelDeployment]
) -> None:
    model = make(tmp_path)

    async def scenario() -> None:
        async with opened(tmp_path) as storage:
            first = await load(storage, model)
            assert first.weights is not None
            stop(storage, "i1", acknowledged=True)
            storage.evict(DRAM, "m", 0)
            await storage.settled()
            spoil(Path(first.weights.directory), 3 * MIB)
            second = await load(storage, model, (DRAM,), "i2")
            check_tensors(storage, second)
            stop(storage, "i2", acknowledged=True)
            storage.evict(DRAM, "m", 0)
            third = await load(storage, model, (DRAM,), "i3")

            assert came_from(second) == (REMOTE, 2 * MIB)
            assert came_from(third) == (SSD, model.size_bytes)

    run(scenario)


def spoil(directory: Path, offset: int) -> None:
    [file] = [f for f in directory.iterdir() if f.stat().st_size > MIB]
    with file.open("r+b") as opened_file:
        opened_file.seek(offset)
        opened_file.write(b"spoilt")


def test_a_corrupt_chunk_fails_the_load_when_the_remote_source_is_gone(tmp_path: Path) -> None:
    model = native_model(tmp_path)

    async def scenario() -> None:
        async with opened(tmp_path) as storage:
            first = await load(storage, model)
            assert first.weights is not None
            stop(storage, "i1", acknowledged=True)
            storage.evict(DRAM, "m", 0)
            await storage.settled()
            spoil(Path(first.weights.directory), 3 * MIB)
            shutil.rmtree(model.source)
            with pytest.raises(UsageError, match="is not a directory"):
                await load(storage, model, (DRAM,), "i2")
            stop(storage, "i2", acknowledged=False)
            await storage.settled()
            assert storage.resident() == (Residency(SSD, "m", model.size_bytes),)

    run(scenario)


def test_a_wrong_byte_from_the_remote_source_is_never_served(tmp_path: Path) -> None:
    local = native_model(tmp_path)
    behaviour = Behaviour(Path(local.source))
    behaviour.spoil = lambda name, offset, raw: (
        bytes([raw[0] ^ 1]) + raw[1:] if name.endswith(part) and offset == 2 * MIB else raw
    )
    part = next(f.name for f in Path(local.source).iterdir() if f.stat().st_size > MIB)

    async def scenario() -> None:
        with serving(behaviour) as url:
            model = spec_of(Path(local.source), "m", url=url)
            async with opened(tmp_path) as storage:
                with pytest.raises(CorruptCheckpointError):
                    await load(storage, model)
                stop(storage, "i1", acknowledged=False)
                await storage.settled()
                assert storage.pool.status().resident_bytes == {}
                assert copies_in(tmp_path) == []

    run(scenario)


def test_a_full_disk_fails_the_load_and_leaves_no_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = native_model(tmp_path)

    def full(fd: int, data: memoryview, offset: int) -> int:
        raise OSError(28, "No space left on device")

    async def scenario() -> None:
        async with opened(tmp_path) as storage:
            monkeypatch.setattr("sllmreal.worker.ssd_copy.os.pwrite", full)
            with pytest.raises(StorageError, match="No space left"):
                await load(storage, model)
            stop(storage, "i1", acknowledged=False)
            await storage.settled()
            assert storage.pool.status().resident_bytes == {}
            assert copies_in(tmp_path) == []
            await load(storage, model, (DRAM,), "i2")  # the rest of the server still works

    run(scenario)


def test_more_room_than_a_tier_has_is_not_promised(tmp_path: Path) -> None:
    first, second = native_model(tmp_path, "a", 1), native_model(tmp_path, "b", 2)

    async def scenario() -> None:
        async with opened(tmp_path, small_server(dram_bytes=8 * MIB)) as storage:
            storage.begin("i1", first, BOTH)
            with pytest.raises(ControlError, match=r"DRAM of .* holds"):
                storage.begin("i2", second, BOTH)

    run(scenario)


def test_a_pool_without_room_fails_the_load(tmp_path: Path) -> None:
    model = native_model(tmp_path, num_mib=60)

    async def scenario() -> None:
        small = small_server(num_gpus=1, gpu_memory_bytes=4 * MIB, dram_bytes=0)
        async with opened(tmp_path, small) as storage:
            with pytest.raises(PoolExhaustedError):
                await load(storage, model, ())
            stop(storage, "i1", acknowledged=False)

    run(scenario)
