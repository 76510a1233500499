"""The real tiers: the sources of bytes, the bytes that stay, and those that must not."""

import asyncio
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from experiments.campaigns.checkpoint.samples import same_bytes
from sllmcore.errors import UsageError
from sllmcore.types import DRAM, REMOTE, SSD, Residency
from sllmreal.checkpoint.errors import StorageError
from sllmreal.control.deployment import ModelDeployment
from sllmreal.engine.mapped_weights import mapped_weights
from tests.loader.range_server import Behaviour, serving
from tests.worker.models import native_model, safetensors_model, sharded_model, spec_of, tensors
from tests.worker.servers import MIB
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


@pytest.mark.parametrize("make", [native_model, safetensors_model])
def test_the_first_load_is_remote_and_the_next_comes_from_dram_or_ssd(
    tmp_path: Path, make: Callable[[Path], ModelDeployment]
) -> None:
    model = make(tmp_path)
    size = model.size_bytes

    async def scenario() -> None:
        async with opened(tmp_path) as storage:
            first = await load(storage, model)
            check_tensors(storage, first)
            stop(storage, "i1", acknowledged=True)
            shutil.rmtree(model.source)  # from here on it can only come from the server's tiers
            second = await load(storage, model, (), "i2")
            stop(storage, "i2", acknowledged=True)
            storage.evict(DRAM, "m", 0)
            third = await load(storage, model, (DRAM,), "i3")
            check_tensors(storage, third)

            assert came_from(first) == (REMOTE, size)
            assert came_from(second) == (DRAM, size)
            assert came_from(third) == (SSD, size)
            assert storage.resident() == (Residency(DRAM, "m", size), Residency(SSD, "m", size))

    run(scenario)


@pytest.mark.parametrize(
    ("make", "assets"),
    [(native_model, "assets"), (safetensors_model, "."), (sharded_model, ".")],
)
def test_a_url_is_a_remote_source(
    tmp_path: Path, make: Callable[[Path], ModelDeployment], assets: str
) -> None:
    local = make(tmp_path)
    behaviour = Behaviour(Path(local.source))

    async def scenario() -> None:
        with serving(behaviour) as url:
            model = spec_of(Path(local.source), "m", url=url)
            async with opened(tmp_path) as storage:
                first = await load(storage, model)
                check_tensors(storage, first)
                assert came_from(first) == (REMOTE, model.size_bytes)
                assert first.weights is not None
                config = Path(first.weights.directory) / assets / "config.json"
                assert config.read_text() == '{"model_type": "none"}'
                stop(storage, "i1", acknowledged=True)
                storage.evict(DRAM, "m", 0)
                num_requests = len(behaviour.requests)
                again = await load(storage, model, (DRAM,), "i2")
                check_tensors(storage, again)
                assert came_from(again) == (SSD, model.size_bytes)
                assert len(behaviour.requests) == num_requests

    run(scenario)


def test_safetensors_that_changed_since_they_were_deployed_are_not_mixed(tmp_path: Path) -> None:
    """Seeded bug: an identity of the headers alone takes the second half from other weights."""
    local = safetensors_model(tmp_path)
    behaviour = Behaviour(Path(local.source))

    async def scenario() -> None:
        with serving(behaviour) as url:
            model = spec_of(Path(local.source), "m", url=url)
            async with opened(tmp_path) as storage:
                await load(storage, model)
                stop(storage, "i1", acknowledged=True)
                storage.evict(DRAM, "m", 0)
                storage.evict(SSD, "m", 4 * MIB)
                behaviour.etag = '"2"'
                with pytest.raises(StorageError, match="has changed"):
                    await load(storage, model, (), "i2")

    run(scenario)


def test_safetensors_without_a_version_are_refused(tmp_path: Path) -> None:
    local = safetensors_model(tmp_path)
    behaviour = Behaviour(Path(local.source), etag="")

    async def scenario() -> None:
        with serving(behaviour) as url:
            model = spec_of(Path(local.source), "m", url=url)
            async with opened(tmp_path) as storage:
                with pytest.raises(UsageError, match="without an ETag"):
                    await load(storage, model)
                stop(storage, "i1", acknowledged=False)
                await storage.settled()
                assert copies_in(tmp_path) == []

    run(scenario)


def test_a_load_that_caches_no_bytes_leaves_none(tmp_path: Path) -> None:
    model = native_model(tmp_path)

    async def scenario() -> None:
        async with opened(tmp_path) as storage:
            await load(storage, model, ())
            assert storage.resident() == ()
            assert storage.pool.status().resident_bytes != {}  # the instance's own weights
            stop(storage, "i1", acknowledged=True)
            await storage.settled()

            assert storage.pool.status().resident_bytes == {}
            assert copies_in(tmp_path) == []

    run(scenario)


def test_the_kept_part_of_a_model_is_not_read_again(tmp_path: Path) -> None:
    model = native_model(tmp_path)

    async def scenario() -> None:
        async with opened(tmp_path) as storage:
            await load(storage, model)
            stop(storage, "i1", acknowledged=True)
            storage.evict(DRAM, "m", 4 * MIB)
            from_ssd = await load(storage, model, (DRAM,), "i2")
            stop(storage, "i2", acknowledged=True)
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
            stop(storage, "i1", acknowledged=True)
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
            stop(storage, "i1", acknowledged=True)
            await storage.settled()
            assert storage.resident() == ()
            check_tensors(storage, first)  # i2 uses the same bytes
            stop(storage, "i2", acknowledged=True)
            await storage.settled()

            assert storage.pool.status().resident_bytes == {}
            assert copies_in(tmp_path) == []

    run(scenario)


def test_tensors_that_outlive_their_instance_keep_their_chunks_until_they_are_freed(
    tmp_path: Path,
) -> None:
    model = native_model(tmp_path)

    async def scenario() -> None:
        async with opened(tmp_path) as storage:
            result = await load(storage, model, ())
            assert result.weights is not None
            held = mapped_weights(result.weights, storage.pool).tensors
            stop(storage, "i1", acknowledged=True)
            await storage.settled()
            assert all(same_bytes(held[name], one) for name, one in tensors().items())
            held.clear()
            await storage.settled()

            assert storage.pool.status().resident_bytes == {}

    run(scenario)


def test_a_load_that_was_not_acknowledged_leaves_no_bytes(tmp_path: Path) -> None:
    model = native_model(tmp_path)

    async def scenario() -> None:
        async with opened(tmp_path) as storage:
            await load(storage, model)
            stop(storage, "i1", acknowledged=False)
            await storage.settled()

            assert storage.resident() == ()
            assert storage.pool.status().resident_bytes == {}
            assert copies_in(tmp_path) == []

    run(scenario)


def test_a_load_that_was_not_acknowledged_leaves_the_bytes_from_before(tmp_path: Path) -> None:
    model = native_model(tmp_path)

    async def scenario() -> None:
        async with opened(tmp_path) as storage:
            await load(storage, model)
            stop(storage, "i1", acknowledged=True)
            storage.evict(DRAM, "m", 0)
            storage.evict(SSD, "m", 4 * MIB)
            await load(storage, model, BOTH, "i2")
            stop(storage, "i2", acknowledged=False)
            assert storage.resident() == (Residency(SSD, "m", 4 * MIB),)
            again = await load(storage, model, BOTH, "i3")

            assert came_from(again) == (REMOTE, 2 * MIB)

    run(scenario)


def test_two_models_of_the_same_bytes_share_memory_and_outlive_each_other(tmp_path: Path) -> None:
    one = native_model(tmp_path, "a", 1)
    other = ModelDeployment("b", one.source, one.size_bytes, 64, 1.0)

    async def scenario() -> None:
        async with opened(tmp_path) as storage:
            first, second = await asyncio.gather(
                load(storage, one, BOTH, "i1"), load(storage, other, BOTH, "i2")
            )
            assert {first.source, second.source} == {REMOTE, DRAM}
            stop(storage, "i1", acknowledged=True)
            stop(storage, "i2", acknowledged=True)
            storage.evict(DRAM, "a", 0)
            await storage.settled()
            third = await load(storage, other, (), "i3")
            assert came_from(third) == (DRAM, one.size_bytes)
            check_tensors(storage, third, seed=1)

    run(scenario)


def test_loads_of_different_models_overlap(tmp_path: Path) -> None:
    """A load from memory does not wait for a remote one: only the controller orders loads."""
    slow, fast = native_model(tmp_path, "slow", 1), native_model(tmp_path, "fast", 2)
    behaviour = Behaviour(Path(slow.source))
    go_on = threading.Event()

    def delayed(name: str, offset: int, raw: bytes) -> bytes:
        go_on.wait(10)
        return raw

    async def scenario() -> None:
        async with opened(tmp_path) as storage:
            await load(storage, fast, (DRAM,), "i0")
            stop(storage, "i0", acknowledged=True)
            with serving(behaviour) as url:
                behaviour.spoil = delayed
                remote = ModelDeployment("slow", url, slow.size_bytes, 64, 1.0)
                storage.begin("i1", remote, ())
                loading = asyncio.create_task(storage.load("i1"))
                await asyncio.sleep(0)
                result = await load(storage, fast, (), "i2")
                assert came_from(result) == (DRAM, fast.size_bytes)
                assert not loading.done()
                go_on.set()
                await loading

    run(scenario)


def test_writing_to_a_tensor_changes_no_other_view(tmp_path: Path) -> None:
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
