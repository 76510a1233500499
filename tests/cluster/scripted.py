"""A log in a list, and peers that do as the test says."""

from collections.abc import AsyncIterator, Sequence

from sllmcore.types import ServerSpec
from sllmreal.protocol.messages import Offer, Order
from sllmreal.protocol.model import ModelSpec


class ListLog:
    """Lines in memory; `broken` makes the next append fail with that error."""

    def __init__(self) -> None:
        self.entries: list[str] = []
        self.num_appends = 0
        self.broken: Exception | None = None

    async def append(self, lines: Sequence[str]) -> int:
        if self.broken is not None:
            raise self.broken
        self.num_appends += 1
        self.entries += lines
        return self.num_appends

    async def lines(self) -> AsyncIterator[str]:
        for line in tuple(self.entries):
            yield line


class Recorder:
    """A peer's handler that notes what it is told."""

    def __init__(self, offer: Offer | None = None) -> None:
        self.orders: list[Order] = []
        self.models: tuple[ModelSpec, ...] = ()
        self.addresses: tuple[str, ...] = ()
        self.num_resets = 0
        self._offer = offer

    def offer(self) -> Offer | None:
        return self._offer

    def execute(self, order: Order) -> None:
        self.orders.append(order)

    def deployed(self, models: tuple[ModelSpec, ...]) -> None:
        self.models = models

    def alive(self, addresses: tuple[str, ...]) -> None:
        self.addresses = addresses

    async def reset(self) -> None:
        self.num_resets += 1


def server(server_id: str, num_gpus: int = 1) -> ServerSpec:
    return ServerSpec(server_id, num_gpus, 1 << 40, 100, 1000, 1e6, 1e6, 1e6)


def worker_offer(server_id: str, num_gpus: int = 1) -> Offer:
    return Offer(server(server_id, num_gpus), (), f"memory:{server_id}")


def model(name: str, num_slots: int = 1) -> ModelSpec:
    return ModelSpec(name, f"/models/{name}", 10, 2048, 0.0, engine="timed", num_slots=num_slots)
