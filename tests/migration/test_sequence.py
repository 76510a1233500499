"""Migrations of sequences between real engines (without a model), by every strategy."""

import pytest

from experiments.campaigns.engine.driving import drained, step_until_output
from experiments.campaigns.migration.samples import sample_spec, unmigrated_output
from sllmcore.migration_rounds import RoundSettings
from sllmreal.engine.protocol import Engine, SequenceSpec
from sllmreal.engine.slots import SlotEngine
from sllmreal.engine.timed import TimedOptions, timed_engine
from sllmreal.migration.destination import DestinationOptions, MigrationDestination
from sllmreal.migration.errors import BadDeltaError
from sllmreal.migration.frames import Sealer
from sllmreal.migration.messages import LogDelta, Position, StateDelta
from sllmreal.migration.sequence import ArrivingSequence, DepartingSequence
from sllmreal.migration.source import MigrationSource, SourceOptions

OPTIONS = TimedOptions(prefill_chunk_tokens=16)
SPEC = sample_spec(num_output=90, num_prompt=40)


def engine_with(spec: SequenceSpec, num_output: int) -> SlotEngine:
    engine = timed_engine(OPTIONS)
    engine.start(spec)
    step_until_output(engine, spec.request_id, num_output)
    return engine


class Trip:
    """A migration between two engines, in lockstep: a round of messages, then a step of each."""

    def __init__(self, replay_tokens: int | None, delta_bytes: int = 4096, begun: int = 50) -> None:
        self.source_engine = engine_with(SPEC, begun)
        self.engine = timed_engine(OPTIONS)
        self.arriving = ArrivingSequence(self.engine, SPEC, replay_tokens)
        self._destination = MigrationDestination(
            self.arriving, DestinationOptions(progress_s=0.0), 0.0
        )
        departing = DepartingSequence(self.source_engine, "r", replay_tokens)
        options = SourceOptions(RoundSettings(final_gap=4), delta_bytes=delta_bytes)
        self._source = MigrationSource(departing, Position(0, replay_tokens or 0), options, 0.0)
        self._sealer = Sealer(b"k" * 32)
        self.wire_bytes = 0

    def go(self) -> int:
        """Run until the destination is released. Return the number of steps."""
        for number in range(200):
            self._exchange()
            if self._destination.released:
                return number
            self.source_engine.step()
            if self.engine.has_work:
                self.engine.step()
            ack = self._destination.advance(0.0)
            if ack is not None:
                self._source.receive(ack, 0.0)
        raise AssertionError("it never moved")

    def _exchange(self) -> None:
        while messages := self._source.advance(0.0):
            for message in messages:
                self.wire_bytes += sum(map(len, self._sealer.seal(message)))
                ack = self._destination.receive(message, 0.0)
                self.wire_bytes += sum(map(len, self._sealer.seal(ack)))
                self._source.receive(ack, 0.0)


def output_of(engine: Engine) -> tuple[int, ...]:
    drained(engine)
    return engine.output("r")


@pytest.mark.parametrize("replay_tokens", [None, 0, 1, 30, 40, 60, 89, 500])
@pytest.mark.parametrize("delta_bytes", [32, 100, 4096])
def test_the_output_is_that_of_a_sequence_that_did_not_migrate(
    replay_tokens: int | None, delta_bytes: int
) -> None:
    trip = Trip(replay_tokens, delta_bytes)

    trip.go()

    assert output_of(trip.engine) == unmigrated_output(SPEC)


@pytest.mark.parametrize("begun", [0, 1, 2])
@pytest.mark.parametrize("replay_tokens", [None, 0, 20])
def test_a_sequence_that_has_just_begun_can_migrate(begun: int, replay_tokens: int | None) -> None:
    trip = Trip(replay_tokens, begun=begun)

    trip.go()

    assert output_of(trip.engine) == unmigrated_output(SPEC)


def test_a_copy_computes_only_the_next_token() -> None:
    trip = Trip(replay_tokens=0)
    trip.go()

    assert trip.arriving.num_recomputed == 1
    assert trip.engine.statistics().prefilled_tokens == 0


def test_a_replay_computes_all_tokens_and_sends_only_tokens() -> None:
    trip = Trip(replay_tokens=None)
    num_steps = trip.go()

    context = 40 + trip.arriving.num_output
    assert trip.arriving.num_recomputed == context
    assert trip.engine.statistics().prefilled_tokens >= context - 5
    assert num_steps <= context / 16 + 3


def test_a_replay_sends_less_than_sixteen_bytes_per_token() -> None:
    """With frames and acknowledgements. The prompt is sent with Prepare, in 4 bytes per token."""
    trip = Trip(replay_tokens=None)
    trip.go()

    context = 40 + trip.arriving.num_output
    assert trip.wire_bytes + 4 * 40 < 16 * context


@pytest.mark.parametrize("replay_tokens", [1, 16, 39, 60])
def test_a_hybrid_computes_exactly_its_part(replay_tokens: int) -> None:
    """Seeded: an engine that also computes positions of which the cache is sent."""
    trip = Trip(replay_tokens, delta_bytes=64)
    trip.go()

    assert trip.arriving.num_recomputed == replay_tokens + 1
    assert trip.engine.statistics().prefilled_tokens == replay_tokens


def test_the_first_token_needs_one_step_after_the_release() -> None:
    for replay_tokens in (None, 0, 30):
        trip = Trip(replay_tokens)
        trip.go()

        (token,) = trip.engine.step()
        assert token.index == trip.arriving.num_output


def test_deltas_that_repeat_or_leave_a_gap_change_nothing() -> None:
    source = engine_with(SPEC, 20)
    departing = DepartingSequence(source, "r", 0)
    until = departing.position
    first = departing.delta(Position(0, 0), until, 40)
    later = departing.delta(Position(15, 0), until, 400)
    arriving = ArrivingSequence(timed_engine(OPTIONS), SPEC, 0)
    assert first is not None and later is not None

    arriving.absorb(later)
    assert arriving.copied == Position(0, 0)
    arriving.absorb(first)
    arriving.absorb(first)
    assert arriving.copied == Position(10, 0)


@pytest.mark.parametrize(
    ("delta", "error"),
    [
        (LogDelta(0, 2, memoryview(bytes(4))), "1 tokens for outputs"),
        (LogDelta(-1, 0, memoryview(bytes(4))), "1 tokens for outputs"),
        (LogDelta(0, 1, memoryview(b"\xff\xff\xff\xff")), "vocabulary"),
        (LogDelta(0, 91, memoryview(bytes(4 * 91))), "limit"),
        (LogDelta(0, 1, memoryview(bytes(3))), "whole number"),
        (StateDelta(0, 1, (memoryview(bytes(31)),)), "31 bytes"),
        (StateDelta(3, 1, (memoryview(bytes(32)),)), "positions"),
        (StateDelta(0, 40, (memoryview(bytes(40 * 32)),)), "block"),
        (StateDelta(0, 40, (memoryview(bytes(640)), memoryview(bytes(640)))), "not of the tokens"),
    ],
)
def test_a_wrong_delta_is_refused(delta: LogDelta | StateDelta, error: str) -> None:
    arriving = ArrivingSequence(timed_engine(OPTIONS), SPEC, 0)

    with pytest.raises(Exception, match=error) as refusal:
        arriving.absorb(delta)
    assert (
        isinstance(refusal.value, BadDeltaError)
        or "sllmreal.engine" in type(refusal.value).__module__
    )


def test_a_cache_is_refused_by_a_destination_that_replays() -> None:
    arriving = ArrivingSequence(timed_engine(OPTIONS), SPEC, None)

    with pytest.raises(BadDeltaError):
        arriving.absorb(StateDelta(0, 1, (memoryview(bytes(32)),)))
