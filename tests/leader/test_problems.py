"""`sllm status` shows the last problems, also those from before a change of the leader."""

import pytest

from sllmcore.events import InferenceStopped, InstanceLost, LoadFailed, LoadFinished
from sllmcore.types import StorageTier
from sllmreal.control.leader_link import LeaderLink
from sllmreal.control.messages import LaunchInstance
from tests.leader.led import LINK, SETTINGS, LeaderSequence, arrival, attached, until
from tests.leader.scripted import Recorder, model, worker_offer

pytestmark = pytest.mark.asyncio


async def test_status_lists_silent_engines_lost_instances_and_failed_loads() -> None:
    """Seeded bug: problems are not part of the state that follows from the log."""
    leaders, gateway, worker = LeaderSequence(SETTINGS), Recorder(), Recorder(worker_offer("s0"))

    def launched(number: int) -> str:
        order = [one for one in worker.orders if isinstance(one, LaunchInstance)][number]
        return order.instance_id

    async with (
        leaders.led() as leader,
        attached(LeaderLink("worker", "s0", leaders.dial, LINK), worker) as from_worker,
        attached(LeaderLink("gateway", "g0", leaders.dial, LINK), gateway) as from_gateway,
    ):
        leader.deploy(model("a"))
        from_gateway.report(arrival(0))
        await until(lambda: len(worker.orders) == 1)
        first = launched(0)
        from_worker.report(
            LoadFinished(
                instance_id=first,
                source=StorageTier.REMOTE,
                num_bytes=10,
                transfer_s=0.1,
                startup_s=0.0,
            )
        )
        await until(lambda: gateway.orders)
        from_gateway.report(InferenceStopped("r0", first, 0))
        await until(lambda: from_gateway.num_unlogged == 0)
        from_gateway.report(arrival(1))
        from_worker.report(InstanceLost(first, "killed"))
        await until(lambda: len(worker.orders) == 2)
        from_worker.report(LoadFailed(launched(1), "bad disk"))
        await until(lambda: from_worker.num_unlogged == 0)
        found = leader.status().problems

    async with leaders.led() as leader:
        assert leader.status().problems == found
    assert [(one.subject, one.reason) for one in found] == [
        ("request r0", f"instance {first} sent nothing for too long; it is restarted"),
        (f"{first} (a)", "instance lost: killed"),
        (f"{launched(1)} (a)", "load failed: bad disk"),
    ]
