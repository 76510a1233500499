"""A gateway's desk moves each request as its cost models say, and teaches them."""

import asyncio

from sllmcore.migration_cost_model import MigrationRates
from sllmcore.migration_strategy import StrategyChooser
from sllmreal.control.messages import ReportedEvent, StartMigration, StartRequest
from sllmreal.engine.protocol import Capabilities
from sllmreal.gateway.backend import GenerationRequest
from sllmreal.router.router import RequestRouter
from sllmreal.streams import messages as wire
from sllmreal.streams.messages import Epoch

LAYOUT = "float32, 4 layers, 4 heads, 32"
ENGINE = Capabilities("weights", 4096, 8, 32000, True, 4096, LAYOUT)
COPYING = MigrationRates(1_000.0, 1e9, 0.001, 0.001)  # a token: 1 ms replayed, 4 us copied


class World:
    """Engines that say nothing by themselves, and a leader that listens."""

    def __init__(self) -> None:
        self.time_s = 0.0
        self.sent: list[tuple[str, wire.ToHost]] = []
        self.events: list[ReportedEvent] = []
        self.router = RequestRouter(self, self, StrategyChooser(COPYING))

    def send(self, address: str, instance_id: str, message: wire.ToHost) -> None:
        self.sent.append((instance_id, message))

    def online(self, instance_id: str) -> wire.HostOnline | None:
        return wire.HostOnline(ENGINE, f"tcp:{instance_id}:1")

    def keep(self, addresses: tuple[str, ...]) -> None:
        raise AssertionError("nobody is lost here")

    def report(self, event: ReportedEvent) -> None:
        self.events.append(event)

    def now_s(self) -> float:
        return self.time_s

    def run(self, name: str, prefill_s: float, prompt_tokens: int = 500) -> None:
        """Submit, and get a first token."""
        self.router.submit(GenerationRequest(name, "model", "tenant", (1,) * prompt_tokens, 100))
        self.router.execute(StartRequest(1, name, "a", "worker a", 0))
        self.time_s += prefill_s
        self.router.received("a", name, wire.Tokens(name, Epoch(1), 0, (7,)))

    def move(self, name: str, takes_s: float) -> int | None:
        """Move to another instance; how it was told to."""
        order = StartMigration(2, f"move {name}", name, "a", "worker a", "b", "worker b")
        self.router.execute(order)
        (prepare,) = [one for _, one in self.sent if isinstance(one, wire.PrepareStream)]
        self.router.received("b", name, wire.StreamPrepared(name, Epoch(2)))
        self.time_s += takes_s
        self.router.received("b", name, wire.StreamReady(name, Epoch(2), 1, 1, 0))
        self.router.received("b", name, wire.Tokens(name, Epoch(2), 1, (8,)))
        self.sent.clear()
        return prepare.terms.replay_tokens


async def played() -> None:
    world = World()

    world.run("first", prefill_s=0.5)
    copied = world.move("first", takes_s=3.0)
    world.run("second", prefill_s=0.5)
    replayed = world.move("second", takes_s=0.5)

    assert (copied, replayed) == (0, None)
    assert world.router.recomputed_tokens == 2


def test_a_copy_that_took_longer_than_a_prefill_is_followed_by_a_replay() -> None:
    asyncio.run(played())


async def quick_prefills() -> None:
    world = World()
    for number in range(3):
        world.run(f"r{number}", prefill_s=0.0005)

    assert world.move("r2", takes_s=0.01) is None


def test_prefills_of_other_requests_say_that_replaying_is_quicker() -> None:
    asyncio.run(quick_prefills())
