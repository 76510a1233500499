"""A log in a list, and a peer that records what it gets."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from sllmcore.types import ServerSpec
from sllmreal.control.deployment import ModelDeployment
from sllmreal.control.messages import Order, WorkerOffer


class ListLog:
    """A log in memory.

    Attributes:
        everything: All lines, also those that a snapshot replaces.
        begins_with: The snapshot.
        broken: The error of the next appends; None: they succeed.
        open: While it is not set, appends wait.
    """

    def __init__(self) -> None:
        self.batches: dict[int, tuple[str, ...]] = {}
        self.num_appends = 0
        self.everything: list[str] = []
        self.begins_with: bytes | None = None
        self.broken: Exception | None = None
        self.open = asyncio.Event()
        self.open.set()

    @property
    def entries(self) -> list[str]:
        return [line for lines in self.batches.values() for line in lines]

    @property
    def num_keys(self) -> int:
        return len(self.batches)

    async def append(self, lines: Sequence[str]) -> int:
        await asyncio.sleep(0)  # other tasks run meanwhile, as with any store
        await self.open.wait()
        if self.broken is not None:
            raise self.broken
        self.num_appends += 1
        self.batches[self.num_appends] = tuple(lines)
        self.everything += lines
        return self.num_appends

    async def snapshot(self) -> bytes | None:
        return self.begins_with

    async def lines(self) -> AsyncIterator[str]:
        for line in self.entries:
            yield line

    async def compact(self, snapshot: bytes, batch: int | None = None) -> None:
        await asyncio.sleep(0)
        self.begins_with = snapshot
        last = self.num_appends if batch is None else batch
        self.batches = {number: one for number, one in self.batches.items() if number > last}


class Recorder:
    """A peer's handler that records orders, models, addresses and resets."""

    def __init__(self, offer: WorkerOffer | None = None) -> None:
        self.orders: list[Order] = []
        self.models: tuple[ModelDeployment, ...] = ()
        self.addresses: tuple[str, ...] = ()
        self.num_resets = 0
        self._offer = offer

    def offer(self) -> WorkerOffer | None:
        return self._offer

    def execute(self, order: Order) -> None:
        self.orders.append(order)

    def deployed(self, models: tuple[ModelDeployment, ...]) -> None:
        self.models = models

    def alive(self, addresses: tuple[str, ...]) -> None:
        self.addresses = addresses

    async def reset(self) -> None:
        self.num_resets += 1


def server(server_id: str, num_gpus: int = 1) -> ServerSpec:
    return ServerSpec(
        id=server_id,
        num_gpus=num_gpus,
        gpu_memory_bytes=1 << 40,
        dram_bytes=100,
        ssd_bytes=1000,
        remote_bytes_per_s=1e6,
        ssd_bytes_per_s=1e6,
        dram_bytes_per_s=1e6,
    )


def worker_offer(server_id: str, num_gpus: int = 1) -> WorkerOffer:
    return WorkerOffer(server(server_id, num_gpus), (), f"memory:{server_id}")


def model(name: str, num_slots: int = 1) -> ModelDeployment:
    return ModelDeployment(
        name=name,
        source=f"/models/{name}",
        size_bytes=10,
        context_tokens=2048,
        created_at_s=0.0,
        engine="timed",
        num_slots=num_slots,
    )
