"""The real tiers: where bytes come from, where they stay, and that nothing stays by accident."""

import asyncio
import os
import shutil
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import torch

from sllmcore.errors import ControlError, UsageError
from sllmcore.types import DRAM, REMOTE, SSD, Residency, ServerSpec, StorageTier
from sllmreal.checkpoint.errors import CorruptCheckpointError, StorageError
from sllmreal.cluster.model import ModelSpec
from sllmreal.loader.errors import PoolExhaustedError
from sllmreal.loader.plan import ChunkRead
from sllmreal.loader.reading import ChunkReader
from sllmreal.worker.storage import LoadResult
from sllmreal.worker.tiers import TierStorage
from sllmreal.worker.weights import mapped_weights
from tests.checkpoint.samples import same_bytes
from tests.loader.range_server import Behaviour, serving
from tests.worker.models import CHUNK_BYTES, native_model, safetensors_model, spec_of, tensors
from tests.worker.servers import MIB, small_server

BOTH = (DRAM, SSD)


@asynccontextmanager
async def opened(tmp_path: Path, server: ServerSpec | None = None) -> AsyncIterator[TierStorage]:
    storage = TierStorage(server or small_server(), tmp_path / "ssd", chunk_bytes=CHUNK_BYTES)
    try:
        yield storage
    finally:
        await storage.close()


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await scenario()

    asyncio.run(main())


def copies_in(tmp_path: Path) -> list[str]:
    return [path.name for path in (tmp_path / "ssd").iterdir()]


async def load(
    storage: TierStorage,
    model: ModelSpec,
    cache_in: tuple[StorageTier, ...] = BOTH,
    instance: str = "i1",
) -> LoadResult:
    storage.begin(instance, model, cache_in)
    return await storage.load(instance)


def stop(storage: TierStorage, instance: str, *, heard: bool) -> None:
    storage.end(instance, heard=heard)
    storage.release(instance)


def came_from(result: LoadResult) -> tuple[StorageTier, int]:
    return result.source, result.num_bytes


def check_tensors(storage: TierStorage, result: LoadResult, seed: int = 0) -> None:
    assert result.weights is not None
    got = mapped_weights(result.weights, storage.pool).tensors
    expected = tensors(seed)
    assert got.keys() == expected.keys()
    assert all(same_bytes(got[name], expected[name]) for name in expected)


@pytest.mark.parametrize("make", [native_model, safetensors_model])
def test_the_first_load_comes_from_the_origin_the_next_from_dram_or_ssd(
    tmp_path: Path, make: Callable[[Path], ModelSpec]
) -> None:
    model = make(tmp_path)
    size = model.size_bytes

    async def scenario() -> None:
        async with opened(tmp_path) as storage:
            first = await load(storage, model)
            check_tensors(storage, first)
            stop(storage, "i1", heard=True)
            shutil.rmtree(model.source)  # from here on it can only come from the server's tiers
            second = await load(storage, model, (), "i2")
            stop(storage, "i2", heard=True)
            storage.evict(DRAM, "m", 0)
            third = await load(storage, model, (DRAM,), "i3")
            check_tensors(storage, third)

            assert came_from(first) == (REMOTE, size)
            assert came_from(second) == (DRAM, size)
            assert came_from(third) == (SSD, size)
            assert storage.resident() == (Residency(DRAM, "m", size), Residency(SSD, "m", size))

    run(scenario)


def test_a_url_is_an_origin(tmp_path: Path) -> None:
    local = native_model(tmp_path)
    behaviour = Behaviour(Path(local.source))

    async def scenario() -> None:
        with serving(behaviour) as url:
            model = spec_of(Path(local.source), "m", url=url)
            async with opened(tmp_path) as storage:
                first = await load(storage, model)
                check_tensors(storage, first)
                assert came_from(first) == (REMOTE, model.size_bytes)
                assert first.weights is not None
                config = Path(first.weights.directory) / "assets" / "config.json"
                assert config.read_text() == '{"model_type": "none"}'

    run(scenario)


def test_a_load_that_caches_nothing_leaves_nothing(tmp_path: Path) -> None:
    model = native_model(tmp_path)

    async def scenario() -> None:
        async with opened(tmp_path) as storage:
            await load(storage, model, ())
            assert storage.resident() == ()
            assert storage.pool.status().resident_bytes != {}  # the instance's own weights
            stop(storage, "i1", heard=True)
            await storage.settled()

            assert storage.pool.status().resident_bytes == {}
            assert copies_in(tmp_path) == []

    run(scenario)


def test_what_was_kept_of_a_model_is_not_read_again(tmp_path: Path) -> None:
    model = native_model(tmp_path)

    async def scenario() -> None:
        async with opened(tmp_path) as storage:
            await load(storage, model)
            stop(storage, "i1", heard=True)
            storage.evict(DRAM, "m", 4 * MIB)
            from_ssd = await load(storage, model, (DRAM,), "i2")
            stop(storage, "i2", heard=True)
            storage.evict(DRAM, "m", 2 * MIB)
            storage.evict(SSD, "m", 4 * MIB)
            mixed = await load(storage, model, BOTH, "i3")
            check_tensors(storage, mixed)

            assert came_from(from_ssd) == (SSD, 2 * MIB)
            assert came_from(mixed) == (REMOTE, 2 * MIB)

    run(scenario)


def test_room_that_eviction_frees_is_free_on_the_disk(tmp_path: Path) -> None:
    model = native_model(tmp_path)

    def disk_bytes() -> int:
        files = [file for file in (tmp_path / "ssd").rglob("*") if file.is_file()]
        return sum(file.stat().st_blocks * 512 for file in files)

    async def scenario() -> None:
        async with opened(tmp_path) as storage:
            await load(storage, model)
            stop(storage, "i1", heard=True)
            await storage.settled()
            assert disk_bytes() >= 6 * MIB
            storage.evict(SSD, "m", 3 * MIB)  # whole chunks within: 2 MiB
            await storage.settled()
            assert 2 * MIB <= disk_bytes() < 3 * MIB
            storage.evict(DRAM, "m", 0)
            storage.evict(SSD, "m", 0)
            await storage.settled()
            assert disk_bytes() == 0

    run(scenario)


def test_a_model_evicted_while_in_use_is_freed_with_its_last_instance(tmp_path: Path) -> None:
    model = native_model(tmp_path)

    async def scenario() -> None:
        async with opened(tmp_path) as storage:
            first = await load(storage, model)
            await load(storage, model, (), "i2")
            storage.evict(DRAM, "m", 0)
            storage.evict(SSD, "m", 0)
            stop(storage, "i1", heard=True)
            await storage.settled()
            assert storage.resident() == ()
            check_tensors(storage, first)  # i2 uses the same bytes
            stop(storage, "i2", heard=True)
            await storage.settled()

            assert storage.pool.status().resident_bytes == {}
            assert copies_in(tmp_path) == []

    run(scenario)


def test_tensors_that_outlive_their_instance_keep_their_chunks_until_they_go(
    tmp_path: Path,
) -> None:
    model = native_model(tmp_path)

    async def scenario() -> None:
        async with opened(tmp_path) as storage:
            result = await load(storage, model, ())
            assert result.weights is not None
            held = mapped_weights(result.weights, storage.pool).tensors
            stop(storage, "i1", heard=True)
            await storage.settled()
            assert all(same_bytes(held[name], one) for name, one in tensors().items())
            held.clear()
            await storage.settled()

            assert storage.pool.status().resident_bytes == {}

    run(scenario)


def test_a_load_that_the_controller_did_not_hear_of_leaves_nothing(tmp_path: Path) -> None:
    model = native_model(tmp_path)

    async def scenario() -> None:
        async with opened(tmp_path) as storage:
            await load(storage, model)
            stop(storage, "i1", heard=False)
            await storage.settled()

            assert storage.resident() == ()
            assert storage.pool.status().resident_bytes == {}
            assert copies_in(tmp_path) == []

    run(scenario)


def test_an_unheard_load_leaves_what_was_there_before(tmp_path: Path) -> None:
    model = native_model(tmp_path)

    async def scenario() -> None:
        async with opened(tmp_path) as storage:
            await load(storage, model)
            stop(storage, "i1", heard=True)
            storage.evict(DRAM, "m", 0)
            storage.evict(SSD, "m", 4 * MIB)
            await load(storage, model, BOTH, "i2")
            stop(storage, "i2", heard=False)
            assert storage.resident() == (Residency(SSD, "m", 4 * MIB),)
            again = await load(storage, model, BOTH, "i3")

            assert came_from(again) == (REMOTE, 2 * MIB)

    run(scenario)


@pytest.mark.parametrize("nth_read", [1, 2, 3])
def test_a_load_cancelled_at_any_chunk_leaves_nothing(
    tmp_path: Path, nth_read: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = native_model(tmp_path)
    held_up = HeldUpReads(monkeypatch, nth_read)

    async def scenario() -> None:
        async with opened(tmp_path) as storage:
            storage.begin("i1", model, BOTH)
            loading = asyncio.create_task(storage.load("i1"))
            await asyncio.to_thread(held_up.reached.wait, 10)
            stop(storage, "i1", heard=False)
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


class HeldUpReads:
    """The nth chunk that is read from files waits until it may go on."""

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


def test_a_load_waits_for_the_chunks_of_the_one_that_is_being_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seeded bug: without `settled` at the start of a load the second finds the pool full."""
    first, second = native_model(tmp_path, "a", 1, 8), native_model(tmp_path, "b", 2, 8)
    server = small_server(num_gpus=1, gpu_memory_bytes=8 * MIB, dram_bytes=0)
    held_up = HeldUpReads(monkeypatch, 1)
    monkeypatch.setattr("sllmreal.worker.tiers._ROUNDING_CHUNKS", 0)

    async def scenario() -> None:
        async with opened(tmp_path, server) as storage:
            storage.begin("i1", first, ())
            loading = asyncio.create_task(storage.load("i1"))
            await asyncio.to_thread(held_up.reached.wait, 10)
            stop(storage, "i1", heard=False)
            loading.cancel()
            asyncio.get_running_loop().call_later(0.05, held_up.go_on.set)
            result = await load(storage, second, (), "i2")
            assert came_from(result) == (REMOTE, 8 * MIB)

    run(scenario)


@pytest.mark.parametrize("make", [native_model, safetensors_model])
def test_a_corrupt_chunk_on_the_ssd_is_fetched_again_and_mended(
    tmp_path: Path, make: Callable[[Path], ModelSpec]
) -> None:
    model = make(tmp_path)

    async def scenario() -> None:
        async with opened(tmp_path) as storage:
            first = await load(storage, model)
            assert first.weights is not None
            stop(storage, "i1", heard=True)
            storage.evict(DRAM, "m", 0)
            await storage.settled()
            spoil(Path(first.weights.directory), 3 * MIB)
            second = await load(storage, model, (DRAM,), "i2")
            check_tensors(storage, second)
            stop(storage, "i2", heard=True)
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


def test_a_corrupt_chunk_fails_the_load_when_the_origin_is_gone(tmp_path: Path) -> None:
    model = native_model(tmp_path)

    async def scenario() -> None:
        async with opened(tmp_path) as storage:
            first = await load(storage, model)
            assert first.weights is not None
            stop(storage, "i1", heard=True)
            storage.evict(DRAM, "m", 0)
            await storage.settled()
            spoil(Path(first.weights.directory), 3 * MIB)
            shutil.rmtree(model.source)
            with pytest.raises(UsageError, match="no directory"):
                await load(storage, model, (DRAM,), "i2")
            stop(storage, "i2", heard=False)
            await storage.settled()
            assert storage.resident() == (Residency(SSD, "m", model.size_bytes),)

    run(scenario)


def test_a_wrong_byte_from_the_origin_is_never_served(tmp_path: Path) -> None:
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
                stop(storage, "i1", heard=False)
                await storage.settled()
                assert storage.pool.status().resident_bytes == {}
                assert copies_in(tmp_path) == []

    run(scenario)


def test_a_full_disk_fails_the_load_and_leaves_nothing(
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
            stop(storage, "i1", heard=False)
            await storage.settled()
            assert storage.pool.status().resident_bytes == {}
            assert copies_in(tmp_path) == []
            await load(storage, model, (DRAM,), "i2")  # the rest of the server still works

    run(scenario)


def test_a_restarted_worker_finds_its_copies_and_nothing_half_written(tmp_path: Path) -> None:
    whole, partial = native_model(tmp_path, "whole", 1), native_model(tmp_path, "partial", 2)
    half = native_model(tmp_path, "half", 3)

    async def scenario() -> None:
        async with opened(tmp_path) as storage:
            for instance, model in (("i1", whole), ("i2", partial), ("i3", half)):
                await load(storage, model, (SSD,), instance)
                stop(storage, instance, heard=True)
            storage.evict(SSD, "partial", 4 * MIB)
        [copy] = (tmp_path / "ssd").glob("half.*")
        manifest = (copy / "copy.json").read_text()
        counted = f'"resident_bytes":{half.size_bytes}'
        assert counted in manifest
        # As it is while the load that stores the chunks has not finished.
        (copy / "copy.json").write_text(manifest.replace(counted, '"resident_bytes":0'))
        for model in (whole, partial, half):
            shutil.rmtree(model.source)

        async with opened(tmp_path) as storage:
            assert set(storage.resident()) == {
                Residency(SSD, "whole", whole.size_bytes),
                Residency(SSD, "partial", 4 * MIB),
            }
            assert not list((tmp_path / "ssd").glob("half.*"))
            result = await load(storage, whole, (), "i1")
            assert came_from(result) == (SSD, whole.size_bytes)
            check_tensors(storage, result, seed=1)

    run(scenario)


@pytest.mark.parametrize("damage", ["truncated", "no_index", "no_manifest", "garbled", "renamed"])
def test_a_restarted_worker_removes_a_copy_that_is_none(tmp_path: Path, damage: str) -> None:
    model = native_model(tmp_path)

    async def scenario() -> None:
        async with opened(tmp_path) as storage:
            await load(storage, model, (SSD,))
            stop(storage, "i1", heard=True)
        [copy] = (tmp_path / "ssd").iterdir()
        match damage:
            case "truncated":
                [file] = [f for f in (copy / "checkpoint").iterdir() if f.stat().st_size > MIB]
                os.truncate(file, MIB)
            case "no_index":
                (copy / "checkpoint" / "index.sllm").unlink()
            case "no_manifest":
                (copy / "copy.json").unlink()
            case "garbled":
                (copy / "copy.json").write_bytes(b"\xff{")
            case _:
                copy.rename(copy.with_name(f"m.{'0' * 16}"))
        async with opened(tmp_path) as storage:
            assert storage.resident() == ()
            assert copies_in(tmp_path) == []

    run(scenario)


def test_a_directory_that_holds_other_things_is_refused(tmp_path: Path) -> None:
    precious = tmp_path / "ssd" / "thesis"
    precious.mkdir(parents=True)
    with pytest.raises(UsageError, match="own directory"):
        TierStorage(small_server(), tmp_path / "ssd", chunk_bytes=CHUNK_BYTES)
    assert precious.is_dir()


def test_two_workers_cannot_share_a_directory(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(tmp_path):
            with pytest.raises(UsageError, match="another worker"):
                TierStorage(small_server(), tmp_path / "ssd", chunk_bytes=CHUNK_BYTES)

    run(scenario)


def test_a_smaller_ssd_keeps_what_fits(tmp_path: Path) -> None:
    models = [native_model(tmp_path, name, seed) for seed, name in enumerate("abc")]

    async def scenario() -> None:
        async with opened(tmp_path) as storage:
            for number, model in enumerate(models):
                await load(storage, model, (SSD,), f"i{number}")
                stop(storage, f"i{number}", heard=True)
        for number, model in enumerate(models):
            [copy] = (tmp_path / "ssd").glob(f"{model.name}.*")
            os.utime(copy / "copy.json", (number, number))
        async with opened(tmp_path, small_server(ssd_bytes=13 * MIB)) as storage:
            assert {one.model for one in storage.resident()} == {"b", "c"}

    run(scenario)


def test_room_that_is_not_there_cannot_be_promised(tmp_path: Path) -> None:
    first, second = native_model(tmp_path, "a", 1), native_model(tmp_path, "b", 2)

    async def scenario() -> None:
        async with opened(tmp_path, small_server(dram_bytes=8 * MIB)) as storage:
            storage.begin("i1", first, BOTH)
            with pytest.raises(ControlError, match="DRAM holds"):
                storage.begin("i2", second, BOTH)

    run(scenario)


def test_a_pool_without_room_fails_the_load(tmp_path: Path) -> None:
    model = native_model(tmp_path, num_mib=60)

    async def scenario() -> None:
        small = small_server(num_gpus=1, gpu_memory_bytes=4 * MIB, dram_bytes=0)
        async with opened(tmp_path, small) as storage:
            with pytest.raises(PoolExhaustedError):
                await load(storage, model, ())
            stop(storage, "i1", heard=False)

    run(scenario)


def test_a_model_deployed_anew_with_the_same_bytes_keeps_its_copies(tmp_path: Path) -> None:
    model = native_model(tmp_path)
    moved = tmp_path / "elsewhere"

    async def scenario() -> None:
        async with opened(tmp_path) as storage:
            await load(storage, model)
            stop(storage, "i1", heard=True)
            shutil.move(model.source, moved)
            again = ModelSpec("m", str(moved), model.size_bytes, 64, 2.0)
            result = await load(storage, again, (), "i2")
            assert came_from(result) == (DRAM, model.size_bytes)

    run(scenario)


def test_a_model_deployed_anew_with_other_bytes_is_fetched_again(tmp_path: Path) -> None:
    old, new = native_model(tmp_path, "m", 1), native_model(tmp_path, "m", 2)

    async def scenario() -> None:
        async with opened(tmp_path) as storage:
            before = await load(storage, old)
            result = await load(storage, new, (), "i2")
            assert came_from(result) == (REMOTE, new.size_bytes)
            check_tensors(storage, result, seed=2)
            assert before.weights is not None
            stop(storage, "i1", heard=True)
            stop(storage, "i2", heard=True)
            await storage.settled()
            again = await load(storage, new, (), "i3")
            assert came_from(again) == (DRAM, new.size_bytes)
            assert len(storage.pool.status().resident_bytes) == 1  # nothing of the old one

    run(scenario)


def test_two_models_of_the_same_bytes_share_memory_and_outlive_each_other(tmp_path: Path) -> None:
    one = native_model(tmp_path, "a", 1)
    other = ModelSpec("b", one.source, one.size_bytes, 64, 1.0)

    async def scenario() -> None:
        async with opened(tmp_path) as storage:
            first, second = await asyncio.gather(
                load(storage, one, BOTH, "i1"), load(storage, other, BOTH, "i2")
            )
            assert {first.source, second.source} == {REMOTE, DRAM}
            stop(storage, "i1", heard=True)
            stop(storage, "i2", heard=True)
            storage.evict(DRAM, "a", 0)
            await storage.settled()
            third = await load(storage, other, (), "i3")
            assert came_from(third) == (DRAM, one.size_bytes)
            check_tensors(storage, third, seed=1)

    run(scenario)


def test_a_model_of_another_size_than_it_was_deployed_with_is_refused(tmp_path: Path) -> None:
    model = native_model(tmp_path)
    wrong = ModelSpec("m", model.source, model.size_bytes - 1, 64, 1.0)

    async def scenario() -> None:
        async with opened(tmp_path) as storage:
            with pytest.raises(UsageError, match="was deployed with"):
                await load(storage, wrong)
            stop(storage, "i1", heard=False)

    run(scenario)


def test_loads_of_different_models_overlap(tmp_path: Path) -> None:
    """A load from memory does not wait for one from afar: turns are the controller's."""
    slow, fast = native_model(tmp_path, "slow", 1), native_model(tmp_path, "fast", 2)
    behaviour = Behaviour(Path(slow.source))
    go_on = threading.Event()

    def held_up(name: str, offset: int, raw: bytes) -> bytes:
        go_on.wait(10)
        return raw

    async def scenario() -> None:
        async with opened(tmp_path) as storage:
            await load(storage, fast, (DRAM,), "i0")
            stop(storage, "i0", heard=True)
            with serving(behaviour) as url:
                behaviour.spoil = held_up
                remote = ModelSpec("slow", url, slow.size_bytes, 64, 1.0)
                storage.begin("i1", remote, ())
                loading = asyncio.create_task(storage.load("i1"))
                await asyncio.sleep(0)
                result = await load(storage, fast, (), "i2")
                assert came_from(result) == (DRAM, fast.size_bytes)
                assert not loading.done()
                go_on.set()
                await loading

    run(scenario)


def test_writing_to_a_tensor_changes_nobody_elses(tmp_path: Path) -> None:
    model = native_model(tmp_path)

    async def scenario() -> None:
        async with opened(tmp_path) as storage:
            result = await load(storage, model)
            assert result.weights is not None
            mine = mapped_weights(result.weights, storage.pool).tensors
            mine["layers.0.weight"].zero_()
            check_tensors(storage, result)
            assert torch.count_nonzero(mine["layers.0.weight"]) == 0

    run(scenario)
