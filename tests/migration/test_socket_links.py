"""Links over sockets between two hosts, and unauthenticated connections."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, SimpleQueue

import pytest

from experiments.campaigns.migration.samples import KEY
from sllmcore.errors import UsageError
from sllmreal.migration.frames import Keys, Sealer, link_id_of, pack_hello
from sllmreal.migration.links import PeerMessage
from sllmreal.migration.messages import Ack, Final, LogDelta, StateDelta
from sllmreal.migration.socket_link import LinkTimeouts
from sllmreal.migration.socket_links import SocketLinks
from sllmreal.transport.blocking import connected, listening, read_fully
from sllmreal.transport.errors import LinkError

LINK_ID = link_id_of(KEY)
HURRIED = LinkTimeouts(connect_s=0.3, frame_s=0.3, idle_s=5.0)


class LinkLog:
    """The events of a host's links."""

    def __init__(self) -> None:
        self.messages: SimpleQueue[PeerMessage] = SimpleQueue()
        self.losses: SimpleQueue[str] = SimpleQueue()

    def received(self, link_id: bytes, message: PeerMessage) -> None:
        assert link_id == LINK_ID
        self.messages.put(message)

    def lost(self, link_id: bytes, reason: str) -> None:
        assert link_id == LINK_ID
        self.losses.put(reason)

    def next_message(self) -> PeerMessage:
        return self.messages.get(timeout=5)

    def next_loss(self) -> str:
        return self.losses.get(timeout=5)


@contextmanager
def links_at(
    address: str, timeouts: LinkTimeouts = HURRIED
) -> Iterator[tuple[SocketLinks, LinkLog]]:
    links, log = SocketLinks(address, timeouts), LinkLog()
    links.listen_to(log)
    try:
        yield links, log
    finally:
        links.close()


@pytest.fixture(params=["unix", "tcp"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    if request.param == "unix":
        return lambda name: f"unix:{tmp_path / name}"
    return lambda name: "tcp:127.0.0.1:0"


def test_messages_arrive_whole_and_in_order(address: Callable[[str], str]) -> None:
    cache = memoryview(bytes(range(256)) * 4096)
    sent: list[PeerMessage] = [
        LogDelta(0, 1, memoryview(b"\1\0\0\0")),
        StateDelta(0, 2, (cache[: 1 << 19], cache[1 << 19 :])),
        Final(1, 2),
    ]
    with links_at(address("a")) as (source, at_source), links_at(address("b")) as (other, log):
        other.expect(LINK_ID, KEY)
        source.connect(LINK_ID, KEY, other.address)
        for message in sent:
            source.transmit(LINK_ID, message)
        received = [log.next_message() for _ in sent]
        other.transmit(LINK_ID, Ack(1, 2, 2))

        assert received == sent
        assert at_source.next_message() == Ack(1, 2, 2)


def test_closing_one_end_is_a_loss_at_the_other(address: Callable[[str], str]) -> None:
    with links_at(address("a")) as (source, at_source), links_at(address("b")) as (other, log):
        other.expect(LINK_ID, KEY)
        source.connect(LINK_ID, KEY, other.address)
        source.transmit(LINK_ID, Final(1, 1))
        log.next_message()

        other.disconnect(LINK_ID)

        assert "closed" in at_source.next_loss()
        assert log.losses.empty()


def test_queued_messages_are_sent_before_an_end_closes(address: Callable[[str], str]) -> None:
    with links_at(address("a")) as (source, _), links_at(address("b")) as (other, log):
        other.expect(LINK_ID, KEY)
        source.connect(LINK_ID, KEY, other.address)
        for number in range(50):
            source.transmit(LINK_ID, Final(number, 0))
        source.disconnect(LINK_ID)

        assert [log.next_message() for _ in range(50)] == [Final(n, 0) for n in range(50)]


def test_a_link_without_messages_stays_alive(address: Callable[[str], str]) -> None:
    """Seeded: ends that send no `Alive`, as while a long context is computed."""
    brief = LinkTimeouts(connect_s=2.0, frame_s=0.3, idle_s=0.3)
    with (
        links_at(address("a"), brief) as (source, at_source),
        links_at(address("b"), brief) as (other, log),
    ):
        other.expect(LINK_ID, KEY)
        source.connect(LINK_ID, KEY, other.address)
        with suppress(Empty):
            pytest.fail(at_source.losses.get(timeout=1.0))
        source.transmit(LINK_ID, Final(1, 1))

        assert log.next_message() == Final(1, 1)
        assert log.losses.empty()


def test_an_end_that_has_stopped_is_a_lost_link(tmp_path: Path) -> None:
    brief = LinkTimeouts(connect_s=2.0, frame_s=0.3, idle_s=0.3)
    with (
        listening(f"unix:{tmp_path / 'stopped'}") as stopped,
        links_at(f"unix:{tmp_path / 'a'}", brief) as (source, at_source),
    ):
        source.connect(LINK_ID, KEY, f"unix:{tmp_path / 'stopped'}")
        connection, _ = stopped.accept()
        with connection:
            connection.sendall(bytes(16))

            assert "too slow" in at_source.next_loss()


def test_a_host_that_is_not_there_is_a_lost_link(tmp_path: Path) -> None:
    with links_at(f"unix:{tmp_path / 'a'}") as (source, at_source):
        source.connect(LINK_ID, KEY, f"unix:{tmp_path / 'absent'}")

        assert "absent" in at_source.next_loss()


@pytest.mark.parametrize("expected", [None, bytes(32)])
def test_a_source_without_the_right_key_is_refused(
    expected: bytes | None, address: Callable[[str], str]
) -> None:
    with links_at(address("a")) as (source, at_source), links_at(address("b")) as (other, log):
        if expected is not None:
            other.expect(LINK_ID, expected)
        source.connect(LINK_ID, KEY, other.address)
        source.transmit(LINK_ID, Final(1, 1))

        at_source.next_loss()
        assert log.messages.empty()


def test_a_recorded_connection_cannot_be_replayed(tmp_path: Path) -> None:
    """The destination's nonce is new each time, so the first frame fails."""
    with links_at(f"unix:{tmp_path / 'b'}") as (other, log):
        other.expect(LINK_ID, KEY)
        nonce = bytes(16)
        replayed = Sealer(Keys.of(KEY, nonce, bytes(16)).from_source).seal(Final(1, 1))
        with connected(other.address, 1.0) as connection:
            connection.sendall(pack_hello(LINK_ID, nonce))
            read_fully(connection, memoryview(bytearray(16)), time.monotonic() + 5)
            connection.sendall(b"".join(replayed))
            with suppress(ConnectionResetError):
                assert connection.recv(1) == b""
        assert log.messages.empty()


def test_a_silent_connection_is_closed_at_its_deadline(tmp_path: Path) -> None:
    with links_at(f"unix:{tmp_path / 'b'}") as (other, _), connected(other.address, 5.0) as silent:
        assert silent.recv(1) == b""


def test_a_destination_that_stops_reading_is_a_lost_link(tmp_path: Path) -> None:
    """The kernel buffers fill, and then a write runs into its deadline."""
    with (
        listening(f"unix:{tmp_path / 'not_reading'}") as not_reading,
        links_at(f"unix:{tmp_path / 'a'}") as (source, at_source),
    ):
        source.connect(LINK_ID, KEY, f"unix:{tmp_path / 'not_reading'}")
        connection, _ = not_reading.accept()
        with connection:
            connection.sendall(bytes(16))
            source.transmit(LINK_ID, StateDelta(0, 1, (memoryview(bytes(8 << 20)),)))

            assert "too slow" in at_source.next_loss()


def test_an_address_of_an_unknown_kind_is_refused() -> None:
    for wrong in ("", "unix:", "tcp:localhost", "tcp:localhost:x", "http://x:1"):
        with pytest.raises(UsageError):
            SocketLinks(wrong)


def test_an_address_in_use_is_refused(tmp_path: Path) -> None:
    with listening(f"unix:{tmp_path / 'a'}"), pytest.raises(LinkError):
        SocketLinks(f"unix:{tmp_path / 'a'}")


def test_a_unix_socket_is_for_its_user_only(tmp_path: Path) -> None:
    with listening(f"unix:{tmp_path / 'a'}") as listener:
        assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600
        assert listener.family == socket.AF_UNIX
