"""Helpers for tests of real tiers: loads, stops, and checks of their results."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from experiments.campaigns.checkpoint.samples import same_bytes
from sllmcore.types import DRAM, SSD, ServerSpec, StorageTier
from sllmreal.control.deployment import ModelDeployment
from sllmreal.engine.mapped_weights import mapped_weights
from sllmreal.worker.storage import LoadResult
from sllmreal.worker.tiers import TierStorage
from tests.worker.models import CHUNK_BYTES, tensors
from tests.worker.servers import small_server

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
    model: ModelDeployment,
    cache_in: tuple[StorageTier, ...] = BOTH,
    instance: str = "i1",
) -> LoadResult:
    storage.begin(instance, model, cache_in)
    return await storage.load(instance)


def stop(storage: TierStorage, instance: str, *, acknowledged: bool) -> None:
    storage.end(instance, acknowledged=acknowledged)
    storage.release(instance)


def came_from(result: LoadResult) -> tuple[StorageTier, int]:
    return result.source, result.num_bytes


def check_tensors(storage: TierStorage, result: LoadResult, seed: int = 0) -> None:
    assert result.weights is not None
    got = mapped_weights(result.weights, storage.pool).tensors
    expected = tensors(seed)
    assert got.keys() == expected.keys()
    assert all(same_bytes(got[name], expected[name]) for name in expected)
