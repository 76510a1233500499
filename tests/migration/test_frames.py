"""Frames of a link: valid ones, hostile ones, and their sizes."""

import tracemalloc
from collections.abc import Callable

import pytest

from experiments.campaigns.migration.fuzz import KEY, SAMPLES, FrameFuzzer, FrameReader, fuzz_hello
from sllmreal.migration import frames
from sllmreal.migration.errors import (
    AuthenticationError,
    FrameError,
    MigrationError,
)
from sllmreal.migration.frames import FRAME_BYTES, HEADER_BYTES, Framed, Keys, Opener, Sealer
from sllmreal.migration.messages import Ack, Alive, Final, LogDelta, StateDelta, ToDestination
from sllmreal.transport.errors import LinkError


def sealed(message: Framed, key: bytes = KEY) -> bytes:
    return b"".join(Sealer(key).seal(message))


def opened(raw: bytes, key: bytes = KEY) -> Framed:
    return Opener(key, ToDestination).open(FrameReader(raw).read)


@pytest.mark.parametrize("kind", [LogDelta, StateDelta, Final, Alive])
def test_a_message_is_decoded_as_it_was_encoded(kind: type[Framed]) -> None:
    for message in SAMPLES[kind]:
        assert opened(sealed(message)) == message


def test_a_frame_has_forty_eight_bytes_besides_its_payload() -> None:
    assert FRAME_BYTES == 48
    assert len(sealed(LogDelta(0, 100, memoryview(bytes(400))))) <= 400 + FRAME_BYTES + 20


def flipped(place: int) -> Callable[[bytes], bytes]:
    return lambda raw: raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]


@pytest.mark.parametrize("place", [0, 4, 8, 20, HEADER_BYTES, -1])
def test_a_changed_bit_anywhere_is_an_authentication_error(place: int) -> None:
    raw = sealed(Final(3, 22))

    with pytest.raises(AuthenticationError):
        opened(flipped(place % len(raw))(raw))


def test_a_frame_of_another_key_is_refused() -> None:
    with pytest.raises(AuthenticationError):
        opened(sealed(Final(3, 22), b"other" * 6))


def test_a_frame_of_the_other_direction_is_refused() -> None:
    keys = Keys.of(KEY, bytes(16), bytes(16))

    with pytest.raises(AuthenticationError):
        opened(sealed(Final(3, 22), keys.from_destination), keys.from_source)


def test_a_repeated_frame_is_refused() -> None:
    raw = sealed(Final(3, 22))
    opener = Opener(KEY, ToDestination)
    opener.open(FrameReader(raw).read)

    with pytest.raises(AuthenticationError, match="got frame 0, frame 1 is next"):
        opener.open(FrameReader(raw).read)


def test_a_message_for_the_other_end_is_refused() -> None:
    with pytest.raises(FrameError, match=r"frames of kind . are not accepted by this end"):
        opened(sealed(Ack(1, 1, 1)))


def test_a_cut_frame_is_a_lost_link() -> None:
    raw = sealed(Final(3, 22))
    for length in range(len(raw)):
        with pytest.raises(LinkError):
            opened(raw[:length])


@pytest.mark.parametrize("kind", sorted(frames._KINDS))
def test_a_length_over_the_limit_of_its_kind_is_refused_before_memory_is_allocated(
    kind: int,
) -> None:
    """Also from a sender that has the key."""
    header = frames._HEADER.pack(kind, frames._KINDS[kind].max_bytes + 1, 0)
    raw = header + frames._mac(KEY, header) + bytes(64)

    tracemalloc.start()
    with pytest.raises((MigrationError, LinkError)):
        opened(raw)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak_bytes < 64 << 10


def test_a_message_that_is_too_long_is_not_sent() -> None:
    with pytest.raises(FrameError):
        Sealer(KEY).seal(StateDelta(0, 1, (memoryview(bytes((40 << 20) + 1)),)))


@pytest.mark.parametrize("kind", list(SAMPLES))
def test_damaged_frames_raise_typed_errors_only(kind: type[Framed]) -> None:
    fuzzer = FrameFuzzer(kind, seed=1)

    for _ in range(3000):
        fuzzer.run_once()

    assert fuzzer.outcomes["AuthenticationError"] > 300
    assert fuzzer.outcomes["FrameError"] > 300


def test_damaged_hellos_raise_typed_errors_only() -> None:
    fuzz_hello(5000, seed=1)
