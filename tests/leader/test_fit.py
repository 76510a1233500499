"""A model that no server can run: refused at deployment, or its requests fail with the reason.

Seeded bugs: servers that are away for a moment do not count; a request that waited before the first
server came waits on.
"""

from dataclasses import replace

import msgspec
import pytest

from sllmcore.errors import UsageError
from sllmcore.events import LoadFailed
from sllmreal.control.leader_link import LeaderLink
from sllmreal.control.messages import LaunchInstance
from sllmreal.gateway.backend import FailedError, GenerationRequest
from sllmreal.gateway.metrics import GatewayMetrics
from sllmreal.leader.fit import misfit
from tests.leader.led import LINK, LeaderSequence, attached, until
from tests.leader.scripted import Recorder, model, server, worker_offer
from tests.router.test_gateway_backend import gateway

BIG = msgspec.structs.replace(model("big"), num_gpus=2)


def request(name: str = "r", of: str = "big") -> GenerationRequest:
    return GenerationRequest(
        request_id=name, model=of, tenant="tenant", prompt=(1,), max_output_tokens=5
    )


def test_a_misfit_names_the_numbers() -> None:
    small = replace(server("s0"), gpu_memory_bytes=100)
    pair = replace(server("s1", 2), gpu_memory_bytes=60)

    assert misfit(BIG, ()) == ""
    assert misfit(BIG, (small, pair)) == ""
    assert "model big needs 2 GPUs, the largest server has 1" in misfit(BIG, (small,))
    large = msgspec.structs.replace(BIG, size_bytes=121)
    reason = misfit(large, (small, pair))
    assert "121 bytes for 2 GPUs, the largest of which have 60 bytes each" in reason
    assert misfit(msgspec.structs.replace(large, size_bytes=120), (small, pair)) == ""


@pytest.mark.asyncio
async def test_a_model_that_no_server_can_run_is_refused_at_deployment() -> None:
    leaders, worker = LeaderSequence(), Recorder(worker_offer("s0", 1))

    async with leaders.led() as leader:
        async with attached(LeaderLink("worker", "s0", leaders.dial, LINK), worker):
            with pytest.raises(UsageError, match="needs 2 GPUs, the largest server has 1"):
                leader.deploy(BIG)
            leader.deploy(model("a"))
        await until(lambda: not leader.loop.controller.cluster.servers)
        with pytest.raises(UsageError, match="needs 2 GPUs"):
            leader.deploy(BIG)
    async with leaders.led() as leader:
        with pytest.raises(UsageError, match="needs 2 GPUs"):
            leader.deploy(BIG)


@pytest.mark.asyncio
async def test_requests_fail_when_the_servers_that_come_cannot_run_their_model() -> None:
    leaders, small = LeaderSequence(), Recorder(worker_offer("s0", 1))
    router, link, backend = gateway(leaders)

    async with leaders.led() as leader, attached(link, router):
        leader.deploy(BIG)
        await until(lambda: backend.model("big"))
        waiting = backend.submit(request())

        async with attached(LeaderLink("worker", "s0", leaders.dial, LINK), small):
            with pytest.raises(FailedError, match="needs 2 GPUs, the largest server has 1"):
                await anext(waiting)
            with pytest.raises(FailedError, match="needs 2 GPUs"):
                backend.submit(request("other"))
            large = Recorder(worker_offer("s1", 2))
            async with attached(LeaderLink("worker", "s1", leaders.dial, LINK), large):
                await until(lambda: not link.unservable)
                backend.submit(request("third"))
                await until(lambda: large.orders)
                await until(lambda: "r" not in leader.loop.controller.cluster.request_states)


@pytest.mark.asyncio
async def test_a_load_that_fails_is_a_failure_with_its_reason_and_is_counted() -> None:
    leaders, worker = LeaderSequence(), Recorder(worker_offer("s0", 1))
    router, link, backend = gateway(leaders)

    async with (
        leaders.led() as leader,
        attached(link, router),
        attached(LeaderLink("worker", "s0", leaders.dial, LINK), worker) as from_worker,
    ):
        leader.deploy(model("a"))
        await until(lambda: backend.model("a"))
        stream = backend.submit(request(of="a"))
        for number in range(3):
            await until(lambda number=number: len(worker.orders) > number)
            order = worker.orders[number]
            assert isinstance(order, LaunchInstance)
            from_worker.report(LoadFailed(order.instance_id, "bad disk"))

        with pytest.raises(FailedError, match="a cannot be loaded: bad disk"):
            await anext(stream)
        await until(lambda: backend.metrics().loads.num_failed == {"a": 3})
        page = GatewayMetrics(backend.metrics).page().decode()
        assert 'sllm:loads_failed_total{model_name="a"} 3.0' in page.splitlines()
        assert [one.reason for one in leader.status().problems] == ["load failed: bad disk"] * 3
