"""The SSD of a restarted worker, and models that are deployed again."""

import os
import shutil
from pathlib import Path

import pytest

from sllmcore.errors import UsageError
from sllmcore.types import DRAM, REMOTE, SSD, Residency
from sllmreal.control.deployment import ModelDeployment
from sllmreal.worker.tiers import TierStorage
from tests.worker.models import CHUNK_BYTES, native_model
from tests.worker.servers import MIB, small_server
from tests.worker.tier_bench import came_from, check_tensors, copies_in, load, opened, run, stop


def test_a_restarted_worker_finds_its_copies_and_removes_unfinished_ones(tmp_path: Path) -> None:
    whole, partial = native_model(tmp_path, "whole", 1), native_model(tmp_path, "partial", 2)
    half = native_model(tmp_path, "half", 3)

    async def scenario() -> None:
        async with opened(tmp_path) as storage:
            for instance, model in (("i1", whole), ("i2", partial), ("i3", half)):
                await load(storage, model, (SSD,), instance)
                stop(storage, instance, acknowledged=True)
            storage.evict(SSD, "partial", 4 * MIB)
        [copy] = (tmp_path / "ssd").glob("half.*")
        manifest = (copy / "copy.json").read_text()
        counted = f'"resident_bytes":{half.size_bytes}'
        assert counted in manifest
        # The manifest as it is before the load that stores the chunks has finished.
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
def test_a_restarted_worker_removes_a_damaged_copy(tmp_path: Path, damage: str) -> None:
    model = native_model(tmp_path)

    async def scenario() -> None:
        async with opened(tmp_path) as storage:
            await load(storage, model, (SSD,))
            stop(storage, "i1", acknowledged=True)
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


def test_a_directory_with_other_files_is_refused(tmp_path: Path) -> None:
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


def test_a_smaller_ssd_keeps_the_models_that_fit(tmp_path: Path) -> None:
    models = [native_model(tmp_path, name, seed) for seed, name in enumerate("abc")]

    async def scenario() -> None:
        async with opened(tmp_path) as storage:
            for number, model in enumerate(models):
                await load(storage, model, (SSD,), f"i{number}")
                stop(storage, f"i{number}", acknowledged=True)
        for number, model in enumerate(models):
            [copy] = (tmp_path / "ssd").glob(f"{model.name}.*")
            os.utime(copy / "copy.json", (number, number))
        async with opened(tmp_path, small_server(ssd_bytes=13 * MIB)) as storage:
            assert {one.model for one in storage.resident()} == {"b", "c"}

    run(scenario)


def test_a_model_deployed_again_with_the_same_bytes_keeps_its_copies(tmp_path: Path) -> None:
    model = native_model(tmp_path)
    moved = tmp_path / "elsewhere"

    async def scenario() -> None:
        async with opened(tmp_path) as storage:
            await load(storage, model)
            stop(storage, "i1", acknowledged=True)
            shutil.move(model.source, moved)
            again = ModelDeployment("m", str(moved), model.size_bytes, 64, 2.0)
            result = await load(storage, again, (), "i2")
            assert came_from(result) == (DRAM, model.size_bytes)

    run(scenario)


def test_a_model_deployed_again_with_other_bytes_is_fetched_again(tmp_path: Path) -> None:
    old, new = native_model(tmp_path, "m", 1), native_model(tmp_path, "m", 2)

    async def scenario() -> None:
        async with opened(tmp_path) as storage:
            before = await load(storage, old)
            result = await load(storage, new, (), "i2")
            assert came_from(result) == (REMOTE, new.size_bytes)
            check_tensors(storage, result, seed=2)
            assert before.weights is not None
            stop(storage, "i1", acknowledged=True)
            stop(storage, "i2", acknowledged=True)
            await storage.settled()
            again = await load(storage, new, (), "i3")
            assert came_from(again) == (DRAM, new.size_bytes)
            assert len(storage.pool.status().resident_bytes) == 1  # nothing of the old one

    run(scenario)


def test_a_model_of_another_size_than_it_was_deployed_with_is_refused(tmp_path: Path) -> None:
    model = native_model(tmp_path)
    wrong = ModelDeployment("m", model.source, model.size_bytes - 1, 64, 1.0)

    async def scenario() -> None:
        async with opened(tmp_path) as storage:
            with pytest.raises(UsageError, match="was deployed with"):
                await load(storage, wrong)
            stop(storage, "i1", acknowledged=False)

    run(scenario)
