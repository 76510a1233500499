"""A host of an engine, in its thread."""

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
from sllmreal.streams import messages as wire
from sllmreal.streams.host import EngineHost
from sllmreal.streams.host_options import HostOptions
from sllmreal.streams.messages import Epoch

SLOWLY = Pace(decode_step_s=0.002)
T = TypeVar("T")


class Owner:
    """Reads what a host says."""

    def __init__(self) -> None:
        self.inbox: SimpleQueue[wire.ToOwner] = SimpleQueue()

    def next(self, kind: type[T], accept: Callable[[T], bool] = lambda _: True) -> T:
        """The next message of a kind that is acceptable; others are passed over."""
        deadline_s = time.monotonic() + 10.0
        while True:
            message = self.inbox.get(timeout=max(0.0, deadline_s - time.monotonic()))
            if isinstance(message, kind) and accept(message):
                return message

    def output(self, epoch: Epoch, first: int = 0) -> tuple[int, ...]:
        """The tokens of an epoch to the end."""
        tokens: list[int] = []
        while True:
            message = self.next(wire.Tokens, lambda one: one.epoch == epoch)
            assert message.first == first + len(tokens)
            tokens += message.tokens
            if message.finish is not None:
                return tuple(tokens)


@contextmanager
def hosted(
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


def test_a_host_says_what_it_is_and_streams_a_request_to_its_end() -> None:
    spec = sample_spec()
    with hosted() as (host, owner):
        online = owner.next(wire.HostOnline)
        host.post(wire.StartStream(Epoch(1), wire.PackedSpec.of(spec)))

        output = owner.output(Epoch(1))

    assert online.capabilities.model == "timed"
    assert output == unmigrated_output(spec)


def test_a_finished_stream_is_told_again_until_it_is_stopped() -> None:
    spec = sample_spec(num_output=3)
    with hosted() as (host, owner):
        host.post(wire.StartStream(Epoch(1), wire.PackedSpec.of(spec)))
        output = owner.output(Epoch(1))

        host.post(wire.PollStream("r", Epoch(1), have=1))
        again = owner.next(wire.Tokens)
        host.post(wire.StopStream("r", Epoch(1)))
        stopped = owner.next(wire.StreamStopped)
        host.post(wire.PollStream("r", Epoch(1), have=1))
        owner.next(wire.StreamUnknown)

    assert again == wire.Tokens("r", Epoch(1), 1, output[1:], FinishReason.LENGTH)
    assert stopped.num_output == 3


def test_a_request_goes_on_from_the_output_that_comes_with_it() -> None:
    spec = sample_spec()
    whole = unmigrated_output(spec)
    with hosted() as (host, owner):
        known = wire.PackedSpec.of(spec).unpacked()
        partly = type(known)("r", known.prompt, known.max_output_tokens, output=whole[:15])
        host.post(wire.StartStream(Epoch(4), wire.PackedSpec.of(partly)))

        assert owner.output(Epoch(4), first=15) == whole[15:]


def test_a_request_too_many_is_refused() -> None:
    with hosted(pace=SLOWLY) as (host, owner):
        for name in "abc":
            host.post(wire.StartStream(Epoch(1), wire.PackedSpec.of(sample_spec(4000, name=name))))

        refused = owner.next(wire.StreamRefused)

    assert (refused.request_id, refused.kind) == ("c", "NoSlotError")


def test_a_late_start_does_not_bring_a_stopped_stream_back() -> None:
    start = wire.StartStream(Epoch(1), wire.PackedSpec.of(sample_spec(4000)))
    with hosted(pace=SLOWLY) as (host, owner):
        host.post(start)
        host.post(wire.StopStream("r", Epoch(1)))
        owner.next(wire.StreamStopped)

        host.post(start)
        host.post(wire.GetHostStatus())

        assert owner.next(wire.HostStatus).num_streams == 0


def test_a_stream_that_nobody_asks_about_is_dropped() -> None:
    options = HostOptions(lease_s=0.05)
    with hosted(pace=SLOWLY, options=options) as (host, owner):
        host.post(wire.StartStream(Epoch(1), wire.PackedSpec.of(sample_spec(4000))))
        owner.next(wire.Tokens)

        deadline_s = time.monotonic() + 5.0
        num_streams = 1
        while num_streams and time.monotonic() < deadline_s:
            host.post(wire.GetHostStatus())
            report = owner.next(wire.HostStatus)
            num_streams = report.num_streams

    assert report.num_streams == report.statistics.num_sequences == 0


@pytest.mark.parametrize("replay_tokens", [None, 0, 10, 25])
def test_a_stream_moves_between_hosts_and_loses_no_token(replay_tokens: int | None) -> None:
    spec = sample_spec(num_output=300)
    terms = wire.MigrationParams(KEY, "timed", KV_LAYOUT, replay_tokens)
    network = LocalNetwork()
    with (
        hosted(network, "a", SLOWLY) as (source, at_source),
        hosted(network, "b") as (destination, at_destination),
    ):
        source.post(wire.StartStream(Epoch(1), wire.PackedSpec.of(spec)))
        at_source.next(wire.Tokens, lambda one: one.first >= 30)
        destination.post(wire.PrepareStream(Epoch(2), wire.PackedSpec.of(spec), terms))
        at_destination.next(wire.StreamPrepared)
        source.post(wire.MigrateStream("r", Epoch(1), Epoch(2), "local:b", terms))
        ready = at_destination.next(wire.StreamReady)
        destination.post(wire.CommitStream("r", Epoch(2), have=0))
        source.post(wire.StopStream("r", Epoch(1)))
        held_at = at_source.next(wire.StreamStopped)
        moved = at_destination.next(wire.Tokens, lambda one: one.first == 0)
        rest = () if moved.finish else at_destination.output(Epoch(2), len(moved.tokens))

    assert moved.tokens + rest == unmigrated_output(spec)
    assert held_at.num_output == ready.num_output >= 30
    if replay_tokens is None:
        assert ready.num_recomputed == 20 + ready.num_output
    elif replay_tokens == 0:
        assert ready.num_recomputed == 1


def test_a_committed_source_stays_held_until_it_is_stopped() -> None:
    spec = sample_spec(num_output=120)
    terms = wire.MigrationParams(KEY, "timed", KV_LAYOUT, None)
    network = LocalNetwork()
    with (
        hosted(network, "a", SLOWLY) as (source, at_source),
        hosted(network, "b", SLOWLY) as (destination, at_destination),
    ):
        source.post(wire.StartStream(Epoch(1), wire.PackedSpec.of(spec)))
        at_source.next(wire.Tokens)
        destination.post(wire.PrepareStream(Epoch(2), wire.PackedSpec.of(spec), terms))
        at_destination.next(wire.StreamPrepared)
        source.post(wire.MigrateStream("r", Epoch(1), Epoch(2), "local:b", terms))
        ready = at_destination.next(wire.StreamReady)
        destination.post(wire.CommitStream("r", Epoch(2), ready.num_output))
        at_destination.next(wire.Tokens, lambda one: one.finish is not None)

        source.post(wire.StopStream("r", Epoch(1)))
        messages = [at_source.inbox.get(timeout=5)]
        while not isinstance(messages[-1], wire.StreamStopped):
            messages.append(at_source.inbox.get(timeout=5))

    assert messages[-1] == wire.StreamStopped("r", Epoch(1), ready.num_output)
    assert not any(isinstance(message, wire.StreamNotMoved) for message in messages)


@pytest.mark.parametrize(
    ("terms", "kind"),
    [
        (wire.MigrationParams(KEY, "another", KV_LAYOUT), "WrongModelError"),
        (wire.MigrationParams(KEY, "timed", "another", 0), "WrongModelError"),
        (wire.MigrationParams(b"short", "timed", KV_LAYOUT), "UsageError"),
        (wire.MigrationParams(KEY, "timed", KV_LAYOUT, -1), "UsageError"),
    ],
)
def test_a_destination_that_does_not_fit_refuses_before_it_takes_a_slot(
    terms: wire.MigrationParams, kind: str
) -> None:
    with hosted() as (host, owner):
        host.post(wire.PrepareStream(Epoch(2), wire.PackedSpec.of(sample_spec()), terms))
        refused = owner.next(wire.StreamRefused)
        host.post(wire.GetHostStatus())

        assert refused.kind == kind
        assert owner.next(wire.HostStatus).num_streams == 0


def test_a_source_whose_destination_is_not_there_goes_on() -> None:
    spec = sample_spec()
    terms = wire.MigrationParams(KEY, "timed", KV_LAYOUT)
    with hosted(pace=SLOWLY) as (host, owner):
        host.post(wire.StartStream(Epoch(1), wire.PackedSpec.of(spec)))
        first = owner.next(wire.Tokens)
        host.post(wire.MigrateStream("r", Epoch(1), Epoch(2), "local:nowhere", terms))
        failed = owner.next(wire.StreamNotMoved)
        host.post(wire.PollStream("r", Epoch(1), have=0))
        told = owner.next(wire.Tokens, lambda one: one.first == 0)
        rest = owner.output(Epoch(1), len(told.tokens))

    assert failed.new_epoch == 2
    assert first.tokens + told.tokens[len(first.tokens) :] + rest == unmigrated_output(spec)
