"""Gateways at a worker's data plane: each receives its own requests' events, and may reconnect."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from sllmreal.engine.protocol import Capabilities, FinishReason, SequenceSpec
from sllmreal.streams import messages as wire
from sllmreal.transport.channel import Channel
from sllmreal.transport.errors import ChannelClosedError
from sllmreal.transport.socket_channel import dial
from sllmreal.worker.data_plane import DataPlane, FromInstance, ToInstance, serving

KEY = b"0123456789abcdef"
ONE = wire.Epoch(1)
ONLINE = wire.HostOnline(Capabilities("m", 64, 4, 100, True, 32, "uint8"), "local:i1")


def start(request_id: str) -> wire.StartStream:
    return wire.StartStream(ONE, wire.PackedSpec.of(SequenceSpec(request_id, (1, 2), 5)))


def token(request_id: str, index: int, finish: FinishReason | None = None) -> wire.Tokens:
    return wire.Tokens(request_id, ONE, index, (7,), finish)


class Plane(DataPlane):
    """A data plane with one instance i1; its host only records messages."""

    def __init__(self) -> None:
        super().__init__()
        self.posted: list[wire.ToHost] = []
        self.has_posted = asyncio.Event()
        self.attach("i1", self.post)
        self.deliver("i1", ONLINE)

    def post(self, message: wire.ToHost) -> None:
        self.posted.append(message)
        self.has_posted.set()


async def received(gateway: Channel[ToInstance, FromInstance], num: int) -> list[wire.ToOwner]:
    async with asyncio.timeout(5):
        return [(await gateway.receive()).message for _ in range(num)]


async def turn() -> None:
    """Let the relay handle all posted messages."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_tokens_go_to_the_gateway_that_started_the_request() -> None:
    async def scenario() -> None:
        plane = Plane()
        one, other = plane.connect(), plane.connect()
        one.post(ToInstance("i1", start("r1")))
        other.post(ToInstance("i1", start("r2")))
        await turn()
        plane.deliver("i1", token("r1", 0))
        plane.deliver("i1", token("r2", 0))
        assert plane.posted == [start("r1"), start("r2")]
        assert await received(one, 2) == [ONLINE, token("r1", 0)]
        assert await received(other, 2) == [ONLINE, token("r2", 0)]
        await plane.close()

    asyncio.run(scenario())


def test_a_gateway_that_comes_back_has_its_stream_when_it_polls() -> None:
    async def scenario() -> None:
        plane = Plane()
        before = plane.connect()
        before.post(ToInstance("i1", start("r1")))
        await turn()
        before.close()
        await turn()
        plane.deliver("i1", token("r1", 0))  # no gateway is connected: the host keeps it
        after = plane.connect()
        after.post(ToInstance("i1", wire.PollStream("r1", ONE, 0)))
        await turn()
        assert plane.posted[-1] == wire.PollStream("r1", ONE, 0)
        plane.deliver("i1", token("r1", 0))
        assert await received(after, 2) == [ONLINE, token("r1", 0)]
        await plane.close()

    asyncio.run(scenario())


def test_every_gateway_is_notified_of_instances_that_come_and_go() -> None:
    async def scenario() -> None:
        plane = Plane()
        gateways = [plane.connect(), plane.connect()]
        await turn()
        plane.attach("i2", plane.post)
        plane.deliver("i2", ONLINE)
        plane.detach("i1", "killed")
        for gateway in gateways:
            assert await received(gateway, 3) == [ONLINE, ONLINE, wire.EngineFailed("killed")]
        late = plane.connect()
        assert (await late.receive()) == FromInstance("i2", ONLINE)
        await plane.close()

    asyncio.run(scenario())


def test_a_message_to_an_unknown_instance_is_answered() -> None:
    async def scenario() -> None:
        plane = Plane()
        gateway = plane.connect()
        gateway.post(ToInstance("i9", start("r1")))
        assert await received(gateway, 2) == [
            ONLINE,
            wire.EngineFailed("the instance is not on this server"),
        ]
        assert plane.posted == []
        await plane.close()

    asyncio.run(scenario())


def test_a_gateway_cannot_shut_an_engine_down() -> None:
    async def scenario() -> None:
        plane = Plane()
        gateway = plane.connect()
        for message in (wire.Shutdown(), wire.GetHostStatus(), start("r1")):
            gateway.post(ToInstance("i1", message))
        await turn()
        assert plane.posted == [start("r1")]
        await plane.close()

    asyncio.run(scenario())


def test_a_route_ends_with_its_stream_and_with_its_connection() -> None:
    """Seeded bug: routes that outlive their stream are a leak of one entry per request."""

    async def scenario() -> None:
        plane = Plane()
        gateway = plane.connect()
        for number in range(10):
            gateway.post(ToInstance("i1", start(f"r{number}")))
        await turn()
        for number in range(6):
            plane.deliver("i1", token(f"r{number}", 0, FinishReason.LENGTH))
            plane.deliver("i1", wire.StreamStopped(f"r{number}", ONE, 1))
        assert plane.num_routes == 4
        gateway.close()
        await turn()
        assert plane.num_routes == 0
        await plane.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_a_data_plane_works_over_sockets(tmp_path: Path, kind: str) -> None:
    async def scenario() -> None:
        plane = Plane()
        address = f"unix:{tmp_path}/plane" if kind == "unix" else "tcp:127.0.0.1:0"
        async with serving(plane, address, KEY) as bound:
            assert plane.address == bound
            gateway = await dial(bound, KEY, FromInstance)
            gateway.post(ToInstance("i1", start("r1")))
            assert await received(gateway, 1) == [ONLINE]
            await plane.has_posted.wait()
            assert plane.posted == [start("r1")]
            plane.deliver("i1", token("r1", 0))
            assert await received(gateway, 1) == [token("r1", 0)]
        with pytest.raises(ChannelClosedError):
            await gateway.receive()
        gateway.close()

    asyncio.run(scenario())


def test_a_gateway_without_the_key_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Plane(), f"unix:{tmp_path}/plane", KEY) as bound:
            with pytest.raises(ChannelClosedError):
                await dial(bound, b"another key, as long", FromInstance)

    asyncio.run(scenario())


def test_a_malformed_message_ends_its_connection_only(tmp_path: Path) -> None:
    async def scenario() -> None:
        plane = Plane()
        async with serving(plane, f"unix:{tmp_path}/plane", KEY) as bound:
            bad, good = await dial(bound, KEY, FromInstance), await dial(bound, KEY, FromInstance)
            await received(bad, 1)
            bad.post(msgspec.json.decode(b'["i1", ["Explode"]]'))
            with pytest.raises(ChannelClosedError):
                await bad.receive()
            good.post(ToInstance("i1", start("r1")))
            await received(good, 1)
            await plane.has_posted.wait()
            bad.close()
            good.close()

    asyncio.run(scenario())
