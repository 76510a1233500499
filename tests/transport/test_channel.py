"""Channels over sockets: order, authentication, malformed frames, slow readers."""

import asyncio
import struct
from pathlib import Path
from typing import Any

import pytest

from sllmcore.errors import UsageError
from sllmreal.control.messages import FromLeader, FromPeer, OperatorRefused, OrdersExecuted
from sllmreal.transport.byte_stream import MAX_UNREAD_BYTES
from sllmreal.transport.errors import ChannelClosedError
from sllmreal.transport.socket_channel import MAX_FRAME_BYTES, SocketChannel, dial, listening

pytestmark = pytest.mark.asyncio
KEY = b"k" * 32


class Receiver:
    """Serves connections; keeps the messages received and the errors that ended them."""

    def __init__(self) -> None:
        self.received: asyncio.Queue[object] = asyncio.Queue()

    async def serve(self, channel: SocketChannel[Any, Any]) -> None:
        try:
            while True:
                self.received.put_nowait(await channel.receive())
        except ChannelClosedError as error:
            self.received.put_nowait(error)


def place(tmp_path: Path) -> str:
    return f"unix:{tmp_path / 's'}"


async def test_messages_come_in_order_over_both_kinds_of_address(tmp_path: Path) -> None:
    for address in (place(tmp_path), "tcp:127.0.0.1:0"):
        receiver = Receiver()
        async with listening(address, KEY, FromPeer, receiver.serve) as bound:
            channel = await dial(bound, KEY, FromPeer)
            for number in range(3):
                channel.post(OrdersExecuted(number))

            assert [await receiver.received.get() for _ in range(3)] == [
                OrdersExecuted(n) for n in range(3)
            ]
            channel.close()
            assert isinstance(await receiver.received.get(), ChannelClosedError)


async def test_messages_posted_in_a_turn_are_sent_with_one_write_and_before_a_close(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seeded bug: a channel closes without sending the messages posted just before."""
    receiver = Receiver()
    async with listening(place(tmp_path), KEY, FromPeer, receiver.serve) as bound:
        channel = await dial(bound, KEY, FromPeer)
        writes: list[bytes] = []
        write = channel._stream.transport.write

        def noting(data: bytes) -> None:
            writes.append(data)
            write(data)

        monkeypatch.setattr(channel._stream.transport, "write", noting)
        channel.post(OrdersExecuted(1))
        channel.post(OrdersExecuted(2))
        channel.close()

        async with asyncio.timeout(10):
            received = [await receiver.received.get() for _ in range(2)]
            assert isinstance(await receiver.received.get(), ChannelClosedError)
        assert received == [OrdersExecuted(1), OrdersExecuted(2)]
        assert len(writes) == 1


async def test_a_client_with_another_key_is_turned_away(tmp_path: Path) -> None:
    receiver = Receiver()
    async with listening(place(tmp_path), KEY, FromPeer, receiver.serve) as bound:
        with pytest.raises(ChannelClosedError, match="does not have this cluster's key"):
            await dial(bound, b"x" * 32, FromPeer)

    assert receiver.received.empty()


async def test_dialling_an_address_without_a_listener_fails(tmp_path: Path) -> None:
    with pytest.raises(ChannelClosedError, match="cannot be reached"):
        await dial(place(tmp_path), KEY, FromPeer)


@pytest.mark.parametrize(
    "payload",
    [b"", b"\xc1", b"\x81\xa4type\xa1\xff", b"\x81\xa4type\xa7Unknown", b"\x91" * 5000, b"x" * 100],
    ids=["empty", "reserved", "no utf-8", "unknown", "deep", "text"],
)
async def test_an_authentic_frame_that_is_no_message_ends_the_connection(
    tmp_path: Path, payload: bytes
) -> None:
    receiver = Receiver()
    async with listening(place(tmp_path), KEY, FromPeer, receiver.serve) as bound:
        channel = await dial(bound, KEY, FromPeer)
        code = channel._sending.next_code(payload)
        channel._stream.transport.write(struct.pack("<I", len(payload)) + code + payload)

        assert isinstance(await receiver.received.get(), ChannelClosedError)
        channel.close()


async def test_a_frame_cannot_be_forged_repeated_or_oversized(tmp_path: Path) -> None:
    receiver = Receiver()
    async with listening(place(tmp_path), KEY, FromPeer, receiver.serve) as bound:
        for forge in ("code", "repeat", "size"):
            channel = await dial(bound, KEY, FromPeer)
            channel.post(OrdersExecuted(7))
            assert await receiver.received.get() == OrdersExecuted(7)
            payload = channel._encoder.encode(OrdersExecuted(7))
            if forge == "repeat":
                channel._sending._num_frames = 0
            code = bytes(16) if forge == "code" else channel._sending.next_code(payload)
            size = MAX_FRAME_BYTES + 1 if forge == "size" else len(payload)
            channel._stream.transport.write(struct.pack("<I", size) + code + payload)

            assert isinstance(await receiver.received.get(), ChannelClosedError)
            channel.close()


async def test_a_key_and_an_address_have_rules(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least 16 bytes, got 5"):
        await dial(place(tmp_path), b"short", FromPeer)
    with pytest.raises(UsageError, match="unix:PATH or tcp:HOST:PORT"):
        await dial("nowhere", KEY, FromPeer)


async def test_a_socket_file_is_for_its_user_only(tmp_path: Path) -> None:
    async with listening(place(tmp_path), KEY, FromPeer, Receiver().serve):
        assert (tmp_path / "s").stat().st_mode & 0o777 == 0o600


async def test_frames_come_in_any_parts_and_many_at_once(tmp_path: Path) -> None:
    """Seeded bug: a reader waits for more bytes although a whole frame has come."""
    receiver = Receiver()
    async with listening(place(tmp_path), KEY, FromPeer, receiver.serve) as bound:
        channel = await dial(bound, KEY, FromPeer)
        whole = bytearray()
        for number in range(3):
            payload = channel._encoder.encode(OrdersExecuted(number))
            whole += struct.pack("<I", len(payload)) + channel._sending.next_code(payload) + payload
        for part in (whole[:1], whole[1:21], whole[21:-1], whole[-1:]):
            channel._stream.transport.write(bytes(part))
            await asyncio.sleep(0.01)

        async with asyncio.timeout(10):
            assert [await receiver.received.get() for _ in range(3)] == [
                OrdersExecuted(n) for n in range(3)
            ]
        channel.close()


async def test_a_slow_receiver_holds_up_the_sender_and_gets_every_message(
    tmp_path: Path,
) -> None:
    """Seeded bug: reading is paused and never resumed."""
    going_on = asyncio.Event()
    receiver = Receiver()

    async def serve(channel: SocketChannel[Any, Any]) -> None:
        streams.append(channel._stream)
        await going_on.wait()
        await receiver.serve(channel)

    streams: list[Any] = []
    refusal = OperatorRefused("x" * (1 << 20))
    async with listening(place(tmp_path), KEY, FromLeader, serve) as bound:
        channel = await dial(bound, KEY, FromLeader)
        for _ in range(8):
            channel.post(refusal)
            await asyncio.sleep(0.01)
        assert len(streams[0].unread) < 4 * MAX_UNREAD_BYTES
        going_on.set()

        async with asyncio.timeout(10):
            assert [await receiver.received.get() for _ in range(8)] == [refusal] * 8
        channel.close()


async def test_a_close_ends_a_receive_although_the_other_end_does_not_read(tmp_path: Path) -> None:
    """Seeded bug: a receive ends only when the other end has read what was posted."""

    async def never_reads(channel: SocketChannel[Any, Any]) -> None:
        await asyncio.Event().wait()

    async with listening(place(tmp_path), KEY, FromPeer, never_reads) as bound:
        channel = await dial(bound, KEY, FromLeader)
        receiving = asyncio.create_task(channel.receive())
        channel.post(OperatorRefused("x" * (2 << 20)))
        await asyncio.sleep(0.01)
        channel.close()

        async with asyncio.timeout(10):
            with pytest.raises(ChannelClosedError):
                await receiving
