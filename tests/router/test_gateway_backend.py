"""The gateway's view of the cluster: cold starts, migrations, changes of the leader, health."""

import time
from collections.abc import Callable

import pytest

from sllmcore.events import LoadFinished, MigrationFailed, MigrationFinished
from sllmcore.types import StorageTier
from sllmreal.control.buckets import BUCKETS_S, BucketCounts
from sllmreal.control.leader_link import LeaderLink
from sllmreal.control.messages import LaunchInstance
from sllmreal.gateway.backend import GenerationRequest
from sllmreal.gateway.metrics import GatewayMetrics
from sllmreal.gateway.service import GatewayService
from sllmreal.gateway.settings import GatewaySettings
from sllmreal.processes.leader import LEASE_S
from sllmreal.router.gateway_backend import LEADER_SILENCE_S, ClusterBackend
from sllmreal.router.router import RequestRouter
from sllmreal.router.worker_connections import WorkerChannel, WorkerConnections
from sllmreal.transport.errors import ChannelClosedError
from tests.leader.led import LINK, LeaderSequence, arrival, attached, until
from tests.leader.scripted import Recorder, model, worker_offer

pytestmark = pytest.mark.asyncio


async def refuse(address: str) -> WorkerChannel:
    """Refuse the connection to a worker."""
    raise ChannelClosedError(f"no worker at {address}")


def gateway(world: LeaderSequence) -> tuple[RequestRouter, LeaderLink, ClusterBackend]:
    connections = WorkerConnections(refuse)
    link = LeaderLink("gateway", "g0", world.dial, LINK)
    router = connections.listener = RequestRouter(connections, link)
    return router, link, ClusterBackend(router, link)


def problems(backend: ClusterBackend) -> list[str]:
    """Return the reasons why a gateway with this backend cannot serve."""
    return GatewayService(backend, GatewaySettings()).problems()


async def started(worker: Recorder, number: int) -> str:
    """Wait for the worker's `number`th message; return the instance that it launches."""
    await until(lambda: len(worker.orders) == number)
    order = worker.orders[-1]
    assert isinstance(order, LaunchInstance)
    return order.instance_id


async def test_cold_starts_are_counted_by_tier_and_phase_over_changes_of_the_leader() -> None:
    world, worker = LeaderSequence(), Recorder(worker_offer("s0", 2))
    router, link, backend = gateway(world)
    worker_link = LeaderLink("worker", "s0", world.dial, LINK)

    async with world.led() as leader, attached(worker_link, worker), attached(link, router):
        for name in ("a", "b"):
            leader.deploy(model(name))
        link.report(arrival(0, "a"))
        instance_id = await started(worker, 1)
        worker_link.report(
            LoadFinished(
                instance_id=instance_id,
                source=StorageTier.REMOTE,
                num_bytes=10,
                transfer_s=0.3,
                startup_s=700.0,
            )
        )
        worker_link.report(
            LoadFinished(
                instance_id="unknown",
                source=StorageTier.REMOTE,
                num_bytes=10,
                transfer_s=0.3,
                startup_s=0.0,
            )
        )
        await until(lambda: backend.metrics().loads.phases)
    async with world.led(), attached(worker_link, worker), attached(link, router):
        link.report(arrival(1, "b"))
        instance_id = await started(worker, 2)
        worker_link.report(
            LoadFinished(
                instance_id=instance_id,
                source=StorageTier.SSD,
                num_bytes=30,
                transfer_s=0.02,
                startup_s=0.0,
            )
        )
        await until(lambda: len(backend.metrics().loads.phases) == 6)
        metrics = backend.metrics()

    beyond = (*(0 for _ in BUCKETS_S), 1)
    found = {
        (phase.tier, phase.phase): BucketCounts(phase.counts, phase.total_s)
        for phase in metrics.loads.phases
    }
    assert found["remote", "transfer"] == BucketCounts().plus(0.3)
    assert found["remote", "startup"] == BucketCounts(beyond, 700.0)
    assert found["ssd", "transfer"] == BucketCounts().plus(0.02)
    assert sum(found["ssd", "queue"].counts) == 1
    assert found["ssd", "queue"].total_s < 60  # two clocks that differ would give years
    assert metrics.loads.num_bytes == {"remote": 10, "ssd": 30}
    assert metrics.leader_changes == 1
    assert found["ssd", "startup"] == BucketCounts().plus(0.0)
    page = GatewayMetrics(backend.metrics).page().decode()
    assert 'sllm:cold_start_seconds_count{phase="transfer",tier="remote"} 1.0' in page
    assert 'sllm:bytes_loaded_total{tier="ssd"} 30.0' in page


async def test_an_open_request_outlives_a_leader_that_does_not_know_its_gateway() -> None:
    """Seeded bug that it finds: the request is submitted again in the incarnation that was lost."""
    world, other_world = LeaderSequence(), LeaderSequence()
    router, link, _ = gateway(world)
    async with world.led() as leader:
        leader.deploy(model("a"))
        async with attached(link, router):
            router.submit(
                GenerationRequest(
                    request_id="r0", model="a", tenant="", prompt=(1, 2), max_output_tokens=5
                )
            )
            await until(
                lambda: leader.loop.controller.cluster.request_states and not link.num_unlogged
            )

    world.log = other_world.log
    async with world.led() as leader:
        leader.deploy(model("a"))
        async with attached(link, router):
            await until(lambda: "r0+" in leader.loop.controller.cluster.request_states)

            assert list(router.generations) == ["r0+"]


async def test_migrations_are_counted_by_their_outcome() -> None:
    router, _, backend = gateway(LeaderSequence())

    for listener in router.event_listeners:
        listener(
            MigrationFinished(
                move_id="m1",
                request_id="r1",
                source_id="i1",
                destination_id="i2",
                num_tokens=20,
                resume_s=0.1,
                pause_s=0.01,
            )
        )
        listener(
            MigrationFinished(
                move_id="m2",
                request_id="r2",
                source_id="i1",
                destination_id="i2",
                num_tokens=20,
                resume_s=0.1,
                pause_s=0.01,
            )
        )
        listener(MigrationFailed("m3", "r3", "i2", "it has ended"))

    assert backend.metrics().migrations == {"finished": 2, "failed": 1}


async def test_a_gateway_is_healthy_while_it_has_a_leader_and_a_worker() -> None:
    world, worker = LeaderSequence(), Recorder(worker_offer("s0"))
    router, link, backend = gateway(world)
    assert problems(backend) == [
        "no leader",
        "store unreachable",
        "no worker alive",
        "driver stuck",
    ]

    async with world.led(), attached(link, router):
        assert problems(backend) == ["no worker alive"]
        async with attached(LeaderLink("worker", "s0", world.dial, LINK), worker):
            await until(lambda: not problems(backend))
        await until(lambda: problems(backend) == ["no worker alive"])  # lost, after the grace


async def test_a_gateway_is_unhealthy_when_its_leader_is_silent_for_longer_than_a_lease(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A change of the leader within a lease does not show; a leader that hangs does."""
    assert LEADER_SILENCE_S == LEASE_S
    world, worker = LeaderSequence(), Recorder(worker_offer("s0"))
    router, link, backend = gateway(world)
    now_s = time.monotonic()
    async with (
        world.led(),
        attached(link, router),
        attached(LeaderLink("worker", "s0", world.dial, LINK), worker),
    ):
        await until(lambda: not problems(backend))
        assert link.connected.is_set()
        set_clock(monkeypatch, lambda: now_s + 100)

        assert problems(backend) == ["no leader", "store unreachable", "driver stuck"]
        monkeypatch.undo()
    assert not link.connected.is_set()
    assert not problems(backend), "another leader may follow within the lease"


def set_clock(monkeypatch: pytest.MonkeyPatch, now_s: Callable[[], float]) -> None:
    monkeypatch.setattr("sllmreal.router.gateway_backend.time.monotonic", now_s)
