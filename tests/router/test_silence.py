"""A generation that makes no progress is restarted, then fails: no stream waits without an end.

Seeded bug: `_wake_up` without `_end_silence`.
"""

import asyncio

import pytest

from sllmcore.events import (
    InferenceFailed,
    InferenceStopped,
    RequestArrived,
    RequestCancelled,
)
from sllmreal.control.messages import StartRequest
from sllmreal.gateway.backend import FailedError, GenerationRequest, TimedOutError
from sllmreal.router.router import RequestRouter
from sllmreal.router.silence import SilenceLimits
from sllmreal.streams import messages
from sllmreal.streams.messages import Epoch
from tests.router.test_router import FakeCluster

pytestmark = pytest.mark.asyncio
LIMITS = SilenceLimits(engine_s=60.0, start_s=300.0)
REQUEST = GenerationRequest(
    request_id="r", model="model", tenant="tenant", prompt=(1,) * 5, max_output_tokens=100
)


class SilentCluster(FakeCluster):
    """A fake cluster that the tests wake up by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.router = RequestRouter(self, self, limits=LIMITS)

    def wait(self, seconds: float) -> None:
        """Let time pass, then wake up all generations as their timers would."""
        self.time_s += seconds
        for generation in list(self.router.generations.values()):
            self.router._wake_up(generation)


async def test_a_request_of_a_silent_instance_is_restarted_once_then_fails() -> None:
    cluster = SilentCluster()
    generation = cluster.router.submit(REQUEST)
    cluster.router.execute(
        StartRequest(id=1, request_id="r", instance_id="a", address="worker a", attempt=0)
    )
    cluster.router.receive("a", "r", messages.Tokens("r", Epoch(1), 0, (7,)))
    cluster.events.clear()

    cluster.wait(59.0)
    assert cluster.events == []
    cluster.wait(2.0)
    stopped, arrived = cluster.events
    assert stopped == InferenceStopped("r", "a", 0)
    assert isinstance(arrived, RequestArrived)
    assert arrived.request.id == "r+"

    cluster.router.execute(
        StartRequest(id=2, request_id="r+", instance_id="b", address="worker b", attempt=0)
    )
    start = cluster.sent[-1][1]
    assert isinstance(start, messages.StartStream)
    assert start.spec.unpacked().output == (7,), "it continues the output"
    cluster.events.clear()
    cluster.wait(61.0)
    reason = "instance b has sent nothing for 60 s"
    assert cluster.events == [InferenceFailed("r+", "b", reason)]
    assert (await anext(generation)).tokens == (7,)
    with pytest.raises(FailedError, match=reason):
        await anext(generation)


async def test_tokens_after_a_restart_allow_another_restart() -> None:
    cluster = SilentCluster()
    cluster.router.submit(REQUEST)
    for number, name in enumerate(("r", "r+")):
        cluster.router.execute(
            StartRequest(
                id=number + 1, request_id=name, instance_id="a", address="worker a", attempt=0
            )
        )
        cluster.router.receive("a", name, messages.Tokens(name, Epoch(1), number, (7,)))
        cluster.wait(61.0)

    assert list(cluster.router.generations) == ["r++"]


async def test_a_request_that_the_leader_never_starts_ends() -> None:
    cluster = SilentCluster()
    generation = cluster.router.submit(REQUEST)

    cluster.wait(299.0)
    assert len(cluster.events) == 1
    cluster.wait(2.0)

    assert cluster.events[1:] == [RequestCancelled("r")]
    assert not cluster.router.generations
    with pytest.raises(TimedOutError, match="not started within 300 s"):
        await anext(generation)


async def test_the_timer_ends_a_silence_without_a_message() -> None:
    cluster = FakeCluster()
    cluster.router = RequestRouter(cluster, cluster, limits=SilenceLimits(1.0, 0.02))
    generation = cluster.router.submit(REQUEST)
    asyncio.get_running_loop().call_later(0.01, setattr, cluster, "time_s", 1.0)

    with pytest.raises(TimedOutError):
        async with asyncio.timeout(5):
            await anext(generation)
