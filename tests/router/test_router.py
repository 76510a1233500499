"""The request router chooses how to migrate from cost models, which learn from the results."""

import asyncio

import pytest

from sllmcore.migration_cost_model import MigrationRates
from sllmcore.migration_strategy import StrategyChooser
from sllmreal.control.messages import ReportedEvent, StartMigration, StartRequest
from sllmreal.engine.protocol import Capabilities
from sllmreal.gateway.backend import GenerationRequest
from sllmreal.router.router import RequestRouter
from sllmreal.streams import messages
from sllmreal.streams.messages import Epoch

LAYOUT = "float32, 4 layers, 4 heads, 32"
ENGINE = Capabilities(
    model="weights",
    context_tokens=4096,
    num_slots=8,
    vocab_size=32000,
    exports_kv=True,
    kv_bytes_per_token=4096,
    kv_layout=LAYOUT,
)
COPYING = MigrationRates(1_000.0, 1e9, 0.001, 0.001)  # a token: 1 ms replayed, 4 us copied


class FakeCluster:
    """The ports of a router: silent engine hosts, and a leader that records reports."""

    def __init__(self) -> None:
        self.time_s = 0.0
        self.sent: list[tuple[str, messages.ToHost]] = []
        self.events: list[ReportedEvent] = []
        self.unservable: dict[str, str] = {}
        self.router = RequestRouter(self, self, StrategyChooser(COPYING))

    def send(self, address: str, instance_id: str, message: messages.ToHost) -> None:
        self.sent.append((instance_id, message))

    def online(self, instance_id: str) -> messages.HostOnline | None:
        return messages.HostOnline(ENGINE, f"tcp:{instance_id}:1")

    def set_workers(self, addresses: tuple[str, ...]) -> None:
        raise AssertionError("no worker is lost in these tests")

    def report(self, event: ReportedEvent) -> None:
        self.events.append(event)

    def now_s(self) -> float:
        return self.time_s

    def run(self, name: str, prefill_s: float, prompt_tokens: int = 500) -> None:
        """Submit a request, start it on instance a, and generate its first token."""
        self.router.submit(
            GenerationRequest(
                request_id=name,
                model="model",
                tenant="tenant",
                prompt=(1,) * prompt_tokens,
                max_output_tokens=100,
            )
        )
        self.router.execute(
            StartRequest(id=1, request_id=name, instance_id="a", address="worker a", attempt=0)
        )
        self.time_s += prefill_s
        self.router.receive("a", name, messages.Tokens(name, Epoch(1), 0, (7,)))

    def migrate(self, name: str, takes_s: float) -> int | None:
        """Migrate a request to instance b; return the chosen `replay_tokens`."""
        order = StartMigration(
            id=2,
            move_id=f"move {name}",
            request_id=name,
            source_id="a",
            source_address="worker a",
            destination_id="b",
            destination_address="worker b",
        )
        self.router.execute(order)
        (prepare,) = [one for _, one in self.sent if isinstance(one, messages.PrepareStream)]
        self.router.receive("b", name, messages.StreamPrepared(name, Epoch(2)))
        self.time_s += takes_s
        self.router.receive(
            "b",
            name,
            messages.StreamReady(
                request_id=name, epoch=Epoch(2), num_output=1, num_recomputed=1, num_bytes=0
            ),
        )
        self.router.receive("b", name, messages.Tokens(name, Epoch(2), 1, (8,)))
        self.sent.clear()
        return prepare.params.replay_tokens


async def migrate_after_a_slow_copy() -> None:
    cluster = FakeCluster()

    cluster.run("first", prefill_s=0.5)
    copied = cluster.migrate("first", takes_s=3.0)
    cluster.run("second", prefill_s=0.5)
    replayed = cluster.migrate("second", takes_s=0.5)

    assert (copied, replayed) == (0, None)
    assert cluster.router.recomputed_tokens == 2


def test_a_copy_that_took_longer_than_a_prefill_is_followed_by_a_replay() -> None:
    asyncio.run(migrate_after_a_slow_copy())


async def migrate_after_quick_prefills() -> None:
    cluster = FakeCluster()
    for number in range(3):
        cluster.run(f"r{number}", prefill_s=0.0005)

    assert cluster.migrate("r2", takes_s=0.01) is None


def test_quick_prefills_of_other_requests_lead_to_a_replay() -> None:
    asyncio.run(migrate_after_quick_prefills())


async def lose_the_source_of_a_migration() -> None:
    cluster = FakeCluster()
    cluster.run("r", prefill_s=0.5)
    cluster.router.execute(
        StartMigration(
            id=2,
            move_id="m",
            request_id="r",
            source_id="a",
            source_address="worker a",
            destination_id="b",
            destination_address="worker b",
        )
    )
    cluster.router.lose_instance("a")
    cluster.router.execute(
        StartRequest(id=3, request_id="r", instance_id="c", address="worker c", attempt=1)
    )
    cluster.router.receive("b", "r", messages.StreamStopped("r", Epoch(2)))


def test_a_lost_instance_a_restart_and_a_failed_migration_are_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")

    asyncio.run(lose_the_source_of_a_migration())

    logged = [(one.getMessage(), one.__dict__.get("instance")) for one in caplog.records]
    assert logged == [
        ("request interrupted at output token 1: its instance is lost", "a"),
        ("request restarts at output token 1", "c"),
        ("migration failed: the source was lost", "b"),
    ]
