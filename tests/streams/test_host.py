"""An engine host in its thread."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import TypeVar

import pytest

from experiments.campaigns.migration.samples import KEY, KV_LAYOUT, sample_spec, unmigrated_output
from sllmreal.engine.protocol import FinishReason
from sllmreal.engine.timed import Pace, TimedOptions, timed_engine
from sllmreal.migration.links import LocalNetwork
from sllmreal.streams import messages
from sllmreal.streams.host import EngineHost
from sllmreal.streams.host_io import HostOptions
from sllmreal.streams.messages import Epoch

SLOW = Pace(decode_step_s=0.002)
T = TypeVar("T")


class Owner:
    """An owner that keeps every message of a host."""

    def __init__(self) -> None:
        self.inbox: SimpleQueue[messages.ToOwner] = SimpleQueue()

    def next(self, kind: type[T], accept: Callable[[T], bool] = lambda _: True) -> T:
        """Return the next message of a kind that `accept` accepts; skip all others."""
        deadline_s = time.monotonic() + 10.0
        while True:
            message = self.inbox.get(timeout=max(0.0, deadline_s - time.monotonic()))
            if isinstance(message, kind) and accept(message):
                return message

    def output(self, epoch: Epoch, first: int = 0) -> tuple[int, ...]:
        """Return the tokens of an epoch, from index `first` to the end."""
        tokens: list[int] = []
        while True:
            message = self.next(messages.Tokens, lambda one: one.epoch == epoch)
            assert message.first == first + len(tokens)
            tokens += message.tokens
            if message.finish is not None:
                return tuple(tokens)


@contextmanager
def engine_host(
    network: LocalNetwork | None = None,
    name: str = "host",
    pace: Pace | None = None,
    options: HostOptions | None = None,
) -> Iterator[tuple[EngineHost, Owner]]:
    owner = Owner()
    engine = timed_engine(TimedOptions(pace=pace or Pace(), num_slots=2))
    links = (network or LocalNetwork()).links(name)
    with EngineHost(engine, owner.inbox.put, links=links, options=options) as host:
        yield host, owner


def test_a_host_announces_its_engine_and_streams_a_request_to_its_end() -> None:
    spec = sample_spec()
    with engine_host() as (host, owner):
        online = owner.next(messages.HostOnline)
        host.post(messages.StartStream(Epoch(1), messages.PackedSpec.of(spec)))

        output = owner.output(Epoch(1))

    assert online.capabilities.model == "timed"
    assert output == unmigrated_output(spec)


def test_a_finished_stream_is_sent_again_until_it_is_stopped() -> None:
    spec = sample_spec(num_output=3)
    with engine_host() as (host, owner):
        host.post(messages.StartStream(Epoch(1), messages.PackedSpec.of(spec)))
        output = owner.output(Epoch(1))

        host.post(messages.PollStream("r", Epoch(1), num_received=1))
        again = owner.next(messages.Tokens)
        host.post(messages.StopStream("r", Epoch(1)))
        stopped = owner.next(messages.StreamStopped)
        host.post(messages.PollStream("r", Epoch(1), num_received=1))
        owner.next(messages.StreamUnknown)

    assert again == messages.Tokens(
        request_id="r", epoch=Epoch(1), first=1, tokens=output[1:], finish=FinishReason.LENGTH
    )
    assert stopped.num_output == 3


def test_a_request_continues_the_output_that_comes_with_it() -> None:
    spec = sample_spec()
    whole = unmigrated_output(spec)
    with engine_host() as (host, owner):
        known = messages.PackedSpec.of(spec).unpacked()
        partly = type(known)("r", known.prompt, known.max_output_tokens, output=whole[:15])
        host.post(messages.StartStream(Epoch(4), messages.PackedSpec.of(partly)))

        assert owner.output(Epoch(4), first=15) == whole[15:]


def test_a_request_is_refused_when_all_slots_are_taken() -> None:
    with engine_host(pace=SLOW) as (host, owner):
        for name in "abc":
            host.post(
                messages.StartStream(Epoch(1), messages.PackedSpec.of(sample_spec(4000, name=name)))
            )

        refused = owner.next(messages.StreamRefused)

    assert (refused.request_id, refused.kind) == ("c", "NoSlotError")


def test_a_late_start_message_does_not_restart_a_stopped_stream() -> None:
    start = messages.StartStream(Epoch(1), messages.PackedSpec.of(sample_spec(4000)))
    with engine_host(pace=SLOW) as (host, owner):
        host.post(start)
        host.post(messages.StopStream("r", Epoch(1)))
        owner.next(messages.StreamStopped)

        host.post(start)
        host.post(messages.GetHostStatus())

        assert owner.next(messages.HostStatus).num_streams == 0


def test_a_stream_is_dropped_when_its_lease_expires() -> None:
    options = HostOptions(lease_s=0.05)
    with engine_host(pace=SLOW, options=options) as (host, owner):
        host.post(messages.StartStream(Epoch(1), messages.PackedSpec.of(sample_spec(4000))))
        owner.next(messages.Tokens)

        deadline_s = time.monotonic() + 5.0
        num_streams = 1
        while num_streams and time.monotonic() < deadline_s:
            host.post(messages.GetHostStatus())
            status = owner.next(messages.HostStatus)
            num_streams = status.num_streams

    assert status.num_streams == status.statistics.num_sequences == 0


@pytest.mark.parametrize("replay_tokens", [None, 0, 10, 25])
def test_a_stream_migrates_between_hosts_and_loses_no_token(replay_tokens: int | None) -> None:
    spec = sample_spec(num_output=300)
    params = messages.MigrationParams(KEY, "timed", KV_LAYOUT, replay_tokens)
    network = LocalNetwork()
    with (
        engine_host(network, "a", SLOW) as (source, at_source),
        engine_host(network, "b") as (destination, at_destination),
    ):
        source.post(messages.StartStream(Epoch(1), messages.PackedSpec.of(spec)))
        at_source.next(messages.Tokens, lambda one: one.first >= 30)
        destination.post(messages.PrepareStream(Epoch(2), messages.PackedSpec.of(spec), params))
        at_destination.next(messages.StreamPrepared)
        source.post(
            messages.MigrateStream(
                request_id="r",
                epoch=Epoch(1),
                new_epoch=Epoch(2),
                destination="local:b",
                params=params,
            )
        )
        ready = at_destination.next(messages.StreamReady)
        destination.post(messages.CommitStream("r", Epoch(2), num_received=0))
        source.post(messages.StopStream("r", Epoch(1)))
        held_at = at_source.next(messages.StreamStopped)
        moved = at_destination.next(messages.Tokens, lambda one: one.first == 0)
        rest = () if moved.finish else at_destination.output(Epoch(2), len(moved.tokens))

    assert moved.tokens + rest == unmigrated_output(spec)
    assert held_at.num_output == ready.num_output >= 30
    if replay_tokens is None:
        assert ready.num_recomputed == 20 + ready.num_output
    elif replay_tokens == 0:
        assert ready.num_recomputed == 1


def test_a_source_stays_held_after_the_commit_until_it_is_stopped() -> None:
    spec = sample_spec(num_output=120)
    params = messages.MigrationParams(KEY, "timed", KV_LAYOUT, None)
    network = LocalNetwork()
    with (
        engine_host(network, "a", SLOW) as (source, at_source),
        engine_host(network, "b", SLOW) as (destination, at_destination),
    ):
        source.post(messages.StartStream(Epoch(1), messages.PackedSpec.of(spec)))
        at_source.next(messages.Tokens)
        destination.post(messages.PrepareStream(Epoch(2), messages.PackedSpec.of(spec), params))
        at_destination.next(messages.StreamPrepared)
        source.post(
            messages.MigrateStream(
                request_id="r",
                epoch=Epoch(1),
                new_epoch=Epoch(2),
                destination="local:b",
                params=params,
            )
        )
        ready = at_destination.next(messages.StreamReady)
        destination.post(messages.CommitStream("r", Epoch(2), ready.num_output))
        at_destination.next(messages.Tokens, lambda one: one.finish is not None)

        source.post(messages.StopStream("r", Epoch(1)))
        received = [at_source.inbox.get(timeout=5)]
        while not isinstance(received[-1], messages.StreamStopped):
            received.append(at_source.inbox.get(timeout=5))

    assert received[-1] == messages.StreamStopped("r", Epoch(1), ready.num_output)
    assert not any(isinstance(message, messages.StreamNotMoved) for message in received)


@pytest.mark.parametrize(
    ("params", "kind"),
    [
        (messages.MigrationParams(KEY, "another", KV_LAYOUT), "WrongModelError"),
        (messages.MigrationParams(KEY, "timed", "another", 0), "WrongModelError"),
        (messages.MigrationParams(b"short", "timed", KV_LAYOUT), "UsageError"),
        (messages.MigrationParams(KEY, "timed", KV_LAYOUT, -1), "UsageError"),
    ],
)
def test_a_destination_that_cannot_take_part_refuses_before_it_takes_a_slot(
    params: messages.MigrationParams, kind: str
) -> None:
    with engine_host() as (host, owner):
        host.post(messages.PrepareStream(Epoch(2), messages.PackedSpec.of(sample_spec()), params))
        refused = owner.next(messages.StreamRefused)
        host.post(messages.GetHostStatus())

        assert refused.kind == kind
        assert owner.next(messages.HostStatus).num_streams == 0


def test_a_source_goes_on_when_its_destination_does_not_exist() -> None:
    spec = sample_spec()
    params = messages.MigrationParams(KEY, "timed", KV_LAYOUT)
    with engine_host(pace=SLOW) as (host, owner):
        host.post(messages.StartStream(Epoch(1), messages.PackedSpec.of(spec)))
        first = owner.next(messages.Tokens)
        host.post(
            messages.MigrateStream(
                request_id="r",
                epoch=Epoch(1),
                new_epoch=Epoch(2),
                destination="local:nowhere",
                params=params,
            )
        )
        failed = owner.next(messages.StreamNotMoved)
        host.post(messages.PollStream("r", Epoch(1), num_received=0))
        polled = owner.next(messages.Tokens, lambda one: one.first == 0)
        rest = owner.output(Epoch(1), len(polled.tokens))

    assert failed.new_epoch == 2
    assert first.tokens + polled.tokens[len(first.tokens) :] + rest == unmigrated_output(spec)
