"""A log in a list, and peers that do as the test says."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from sllmcore.types import ServerSpec
from sllmreal.control.deployment import ModelDeployment
from sllmreal.control.messages import Order, WorkerOffer


class ListLog:
    """Lines in memory; `broken` makes the next append fail with that error, and while `open` is not
    set appends take for ever."""

    def __init__(self) -> None:
        self.batches: dict[int, tuple[str, ...]] = {}
        self.num_appends = 0
        self.everything: list[str] = []  # also what a snapshot stands for
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
        await asyncio.sleep(0)  # as long as any store takes: others may have their turn
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
    """A peer's handler that notes what it is told."""

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
    return ServerSpec(server_id, num_gpus, 1 << 40, 100, 1000, 1e6, 1e6, 1e6)


def worker_offer(server_id: str, num_gpus: int = 1) -> WorkerOffer:
    return WorkerOffer(server(server_id, num_gpus), (), f"memory:{server_id}")


def model(name: str, num_slots: int = 1) -> ModelDeployment:
    return ModelDeployment(
        name, f"/models/{name}", 10, 2048, 0.0, engine="timed", num_slots=num_slots
    )
