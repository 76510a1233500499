"""Leader and links: each order is executed once and each report handled once, across failures."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from sllmcore.errors import ClusterError, UsageError
from sllmcore.events import InferenceFinished, LoadFinished
from sllmcore.types import StorageTier
from sllmreal.control.leader_link import LeaderLink
from sllmreal.control.messages import LaunchInstance, StartRequest
from sllmreal.leader.leader import Leader, LeaderSettings
from tests.leader.led import LINK, SETTINGS, LeaderSequence, arrival, attached, until
from tests.leader.scripted import Recorder, model, worker_offer

pytestmark = pytest.mark.asyncio


async def test_an_arrival_leads_to_a_launch_and_then_to_a_start() -> None:
    leaders, gateway, worker = LeaderSequence(), Recorder(), Recorder(worker_offer("s0"))

    async with (
        leaders.led() as leader,
        attached(LeaderLink("worker", "s0", leaders.dial, LINK), worker) as from_worker,
        attached(LeaderLink("gateway", "g0", leaders.dial, LINK), gateway) as from_gateway,
    ):
        leader.deploy(model("a"))
        from_gateway.report(arrival(0))
        await until(lambda: worker.orders)
        load = worker.orders[0]
        assert isinstance(load, LaunchInstance)
        from_worker.report(
            LoadFinished(
                instance_id=load.instance_id,
                source=StorageTier.REMOTE,
                num_bytes=10,
                transfer_s=0.1,
                startup_s=0.0,
            )
        )
        await until(lambda: gateway.orders)
        await until(lambda: from_gateway.num_unlogged == 0)

    infer = gateway.orders[0]
    assert isinstance(infer, StartRequest)
    assert (infer.request_id, infer.instance_id, infer.address) == (
        "r0",
        load.instance_id,
        "memory:s0",
    )
    assert gateway.models == (model("a"),)


async def test_a_new_leader_continues_from_the_end_of_the_log() -> None:
    leaders, gateway, worker = LeaderSequence(), Recorder(), Recorder(worker_offer("s0"))
    worker_link = LeaderLink("worker", "s0", leaders.dial, LINK)
    gateway_link = LeaderLink("gateway", "g0", leaders.dial, LINK)

    async with (
        leaders.led() as leader,
        attached(worker_link, worker),
        attached(gateway_link, gateway),
    ):
        leader.deploy(model("a"))
        gateway_link.report(arrival(0))
        await until(lambda: worker.orders)
    load = worker.orders[0]
    assert isinstance(load, LaunchInstance)
    worker_link.report(
        LoadFinished(
            instance_id=load.instance_id,
            source=StorageTier.REMOTE,
            num_bytes=10,
            transfer_s=0.1,
            startup_s=0.0,
        )
    )
    gateway_link.report(arrival(1))
    async with (
        leaders.led() as leader,
        attached(worker_link, worker),
        attached(gateway_link, gateway),
    ):
        await until(lambda: gateway.orders)
        gateway_link.report(InferenceFinished("r0", load.instance_id, 5, 1.0))
        await until(lambda: len(gateway.orders) == 2)

        assert leader.models() == (model("a"),)
        assert [order.id for order in worker.orders] == [load.id], "the load was not ordered twice"
        assert [o.request_id for o in gateway.orders if isinstance(o, StartRequest)] == ["r0", "r1"]
        assert gateway.num_resets == worker.num_resets == 0


async def test_a_report_that_was_not_durable_at_a_reconnection_is_sent_to_the_next_leader() -> None:
    """Seeded bug: a Welcome acknowledges reports that are handled, but not in the log."""
    leaders, gateway = LeaderSequence(), Recorder()
    link = LeaderLink("gateway", "g0", leaders.dial, LINK)

    async with leaders.led() as leader:
        leader.deploy(model("a"))
        await leader.loop.durable()
        leaders.log.open.clear()
        async with attached(link, gateway):
            link.report(arrival(0))
            await until(lambda: "r0" in leader.loop.controller.cluster.request_states)
        async with attached(link, gateway):
            pass
    leaders.log.open.set()
    async with leaders.led() as leader, attached(link, gateway):
        await until(lambda: "r0" in leader.loop.controller.cluster.request_states)


async def test_a_worker_that_stays_away_is_lost_and_comes_back_as_a_new_incarnation() -> None:
    leaders, gateway = LeaderSequence(), Recorder()
    first, second = Recorder(worker_offer("s0")), Recorder(worker_offer("s1"))
    link = LeaderLink("worker", "s0", leaders.dial, LINK)

    async with leaders.led() as leader:
        leader.deploy(model("a"))
        async with attached(LeaderLink("gateway", "g0", leaders.dial, LINK), gateway) as to_leader:
            async with attached(link, first):
                to_leader.report(arrival(0))
                await until(lambda: first.orders)
            incarnation = link.incarnation
            async with attached(LeaderLink("worker", "s1", leaders.dial, LINK), second):
                await until(lambda: second.orders)
                assert "s0" not in leader.loop.controller.cluster.servers
            again = asyncio.create_task(link.run(first))
            await until(lambda: "s0" in leader.loop.controller.cluster.servers)
            again.cancel()

    assert first.num_resets == 1
    assert link.incarnation != incarnation


async def test_a_worker_that_restarts_at_once_is_lost_once() -> None:
    leaders, before, after = (
        LeaderSequence(),
        Recorder(worker_offer("s0")),
        Recorder(worker_offer("s0")),
    )

    async with leaders.led() as leader:
        async with attached(LeaderLink("worker", "s0", leaders.dial, LINK), before):
            pass
        async with attached(LeaderLink("worker", "s0", leaders.dial, LINK), after):
            await asyncio.sleep(3 * SETTINGS.grace_s)

            assert "s0" in leader.loop.controller.cluster.servers
    assert after.num_resets == 0


async def test_requests_of_a_gateway_that_stays_away_are_cancelled() -> None:
    leaders, gateway = LeaderSequence(), Recorder()

    async with leaders.led() as leader:
        leader.deploy(model("a"))
        async with attached(LeaderLink("gateway", "g0", leaders.dial, LINK), gateway) as to_leader:
            to_leader.report(arrival(0))
            await until(lambda: leader.loop.controller.cluster.request_states)
        await until(lambda: not leader.loop.controller.cluster.request_states)


async def test_a_request_of_a_lost_gateway_leaves_its_slot_after_the_orphan_timer() -> None:
    """Seeded bug: the request of a lost gateway never ends, and its slot stays taken."""
    leaders = LeaderSequence(replace(SETTINGS, orphan_s=0.2))
    worker, first, second = Recorder(worker_offer("s0")), Recorder(), Recorder()

    async with AsyncExitStack() as stack:
        leading = AsyncExitStack()
        leader = await leading.enter_async_context(leaders.led())
        from_worker = await stack.enter_async_context(
            attached(LeaderLink("worker", "s0", leaders.dial, LINK), worker)
        )
        leader.deploy(model("a"))
        async with attached(LeaderLink("gateway", "g0", leaders.dial, LINK), first) as to_leader:
            to_leader.report(arrival(0))
            await until(lambda: worker.orders)
            load = worker.orders[0]
            assert isinstance(load, LaunchInstance)
            from_worker.report(
                LoadFinished(
                    instance_id=load.instance_id,
                    source=StorageTier.REMOTE,
                    num_bytes=10,
                    transfer_s=0.1,
                    startup_s=0.0,
                )
            )
            await until(lambda: first.orders)
        await until(lambda: "g0" not in leader.peer_table.peers)
        assert leader.loop.controller.cluster.request_states, "its engine runs on"
        await leading.aclose()
        leader = await stack.enter_async_context(leaders.led())
        link = LeaderLink("gateway", "g0", leaders.dial, LINK)
        to_leader = await stack.enter_async_context(attached(link, second))
        to_leader.report(arrival(1))
        await until(lambda: second.orders)

        (order,) = second.orders
        assert isinstance(order, StartRequest)
        assert (order.request_id, order.instance_id) == ("r1", load.instance_id)
        assert list(leader.loop.controller.cluster.request_states) == ["r1"]
        assert not leader.peer_table.orphans()


async def test_a_peer_that_another_cluster_knows_is_reset() -> None:
    leaders, other = LeaderSequence(), LeaderSequence()
    worker = Recorder(worker_offer("s0"))
    link = LeaderLink("worker", "s0", leaders.dial, LINK)
    async with leaders.led() as leader:
        leader.deploy(model("a"))
        async with (
            attached(link, worker),
            attached(LeaderLink("gateway", "g0", leaders.dial, LINK), Recorder()) as to_leader,
        ):
            to_leader.report(arrival(0))
            await until(lambda: worker.orders)
    known = link.incarnation

    leaders.log = other.log
    async with leaders.led(), attached(link, worker):
        await until(lambda: worker.num_resets == 1)
        await until(link.connected.is_set)

    assert link.incarnation != known


async def test_no_order_is_sent_before_its_record_is_in_the_log() -> None:
    leaders, gateway, worker = LeaderSequence(), Recorder(), Recorder(worker_offer("s0"))

    async with (
        leaders.led() as leader,
        attached(LeaderLink("worker", "s0", leaders.dial, LINK), worker),
        attached(LeaderLink("gateway", "g0", leaders.dial, LINK), gateway) as to_leader,
    ):
        leader.deploy(model("a"))
        await until(lambda: leaders.log.entries)
        leaders.log.broken = ClusterError("another leads")
        to_leader.report(arrival(0))
        await until(lambda: leader.loop.controller.cluster.instances)
        await asyncio.sleep(0.02)

        assert not worker.orders
        assert to_leader.num_unlogged == 1


async def test_a_log_of_another_policy_is_refused() -> None:
    leaders = LeaderSequence()
    async with leaders.led() as leader:
        leader.deploy(model("a"))
        await until(lambda: leaders.log.entries)
    other = Leader(LeaderSettings(seed=1), leaders.log, 2)

    with pytest.raises(ClusterError, match="belongs to another policy"):
        async with other.running():
            pass


async def test_a_name_is_deployed_once() -> None:
    leaders = LeaderSequence()
    async with leaders.led() as leader:
        leader.deploy(model("a"))

        with pytest.raises(UsageError, match="deployed already"):
            leader.deploy(model("a"))
        leader.delete("a")
        with pytest.raises(UsageError, match="no model"):
            leader.delete("a")
        leader.deploy(model("a"))
