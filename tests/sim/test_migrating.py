"""Rounds of tokens between two engines: they converge or stop at the bound, and can be broken off
at any moment without losing a token."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sllmcore.commands import StartMigration
from sllmcore.events import MigrationFailed, MigrationFinished
from sllmsim.clock import SimClock
from sllmsim.engine import BatchEngine, SimSequence
from sllmsim.migrating import Migrating
from sllmsim.setup import MigrationSettings
from sllmsim.timing.linear import LinearTiming

# A token every 1/16 s; a prefill of n tokens takes n / 64 s, four times as fast.
FAST = LinearTiming(fixed_s=0.0625, prefill_per_token_s=0.015625)
RESUME = StartMigration(1, "m1", "r1", "i1", "i2", 0.0)
TOKENS = 200


class Pair:
    """r1 with 64 input tokens runs on `source` from 0 s; its first token comes at 1 s."""

    def __init__(
        self, settings: MigrationSettings | None = None, timing: LinearTiming = FAST
    ) -> None:
        self.clock = SimClock()
        self.finished: list[tuple[str, float, int]] = []
        self.ends: list[MigrationFinished | MigrationFailed] = []
        self.source = BatchEngine(self.clock, timing, lambda s: self._finished("source", s))
        self.destination = BatchEngine(self.clock, timing, lambda s: self._finished("dest", s))
        settings = settings or MigrationSettings(message_s=0.0, stop_gap_tokens=2)
        self.migrating = Migrating(self.clock, settings, self.ends.append)
        self.source.add(SimSequence("r1", 64, TOKENS))

    def _finished(self, where: str, stream: SimSequence) -> None:
        self.finished.append((where, self.clock.now, stream.made_tokens))

    def begin(self, at_s: float) -> None:
        self.clock.call_at(
            at_s, lambda _: self.migrating.begin(RESUME, self.source, self.destination)
        )

    def abort(self, at_s: float) -> None:
        self.clock.call_at(at_s, lambda _: self.migrating.abort("m1", "not wanted"))


def test_rounds_shrink_until_the_gap_is_small_and_the_pause_is_its_recomputation() -> None:
    pair = Pair()
    pair.begin(2.0)

    pair.clock.run()

    # 17 tokens by 2 s: 81 sent, 81/64 s to recompute, 20 made meanwhile; 20/64 s, 5; 5/64 s, 2.
    (end,) = pair.ends
    assert isinstance(end, MigrationFinished)
    assert (end.source_id, end.destination_id, end.num_tokens) == ("i1", "i2", 81)
    assert 0 < end.pause_s <= 4 / 64
    assert end.resume_s == pytest.approx((81 + 20 + 5 + 2) / 64, abs=2 / 16)
    ((where, at_s, tokens),) = pair.finished
    assert (where, tokens) == ("dest", TOKENS)
    assert at_s == pytest.approx(1.0 + 199 / 16 + end.pause_s, abs=0.07)


def test_rounds_that_do_not_shrink_end_in_a_pause() -> None:
    slow = LinearTiming(fixed_s=0.0625, prefill_per_token_s=0.05)  # gaps shrink to 0.8 of the last
    pair = Pair(timing=slow)
    pair.begin(4.2)

    pair.clock.run()

    # 81 tokens sent, 65 made meanwhile; 65 sent, 52 made, and 52 > 0.7 * 65 + 1: the last gap.
    (end,) = pair.ends
    assert isinstance(end, MigrationFinished)
    assert end.pause_s == pytest.approx(52 * 0.05, abs=0.1)
    assert pair.finished[0][0] == "dest" and pair.finished[0][2] == TOKENS


@pytest.mark.parametrize(("max_rounds", "longest_pause_s"), [(1, 0.4), (2, 0.15), (8, 0.05)])
def test_at_the_bound_of_rounds_the_source_stops(max_rounds: int, longest_pause_s: float) -> None:
    pair = Pair(MigrationSettings(message_s=0.0, stop_gap_tokens=0, max_rounds=max_rounds))
    pair.begin(2.0)

    pair.clock.run()

    (end,) = pair.ends
    assert isinstance(end, MigrationFinished)
    assert longest_pause_s / 4 < end.pause_s < longest_pause_s


def test_messages_add_to_the_pause() -> None:
    pair = Pair(MigrationSettings(message_s=0.5, stop_gap_tokens=16))
    pair.begin(2.0)

    pair.clock.run()

    (end,) = pair.ends
    assert isinstance(end, MigrationFinished)
    assert end.pause_s >= 0.5


def test_a_migration_before_the_first_token_sends_the_prompt() -> None:
    pair = Pair()
    pair.begin(0.5)

    pair.clock.run()

    (end,) = pair.ends
    assert isinstance(end, MigrationFinished)
    assert end.num_tokens == 64
    assert pair.finished[0][2] == TOKENS


@given(st.integers(0, 80))
def test_broken_off_at_any_moment_the_source_goes_on_to_the_last_token(sixty_fourths: int) -> None:
    pair = Pair()
    pair.begin(2.0)
    pair.abort(2.0 + sixty_fourths / 64)

    pair.clock.run()

    (end,) = pair.ends
    ((where, at_s, tokens),) = pair.finished
    assert tokens == TOKENS
    if isinstance(end, MigrationFailed):
        assert where == "source"
        # it pauses for the length of a switch at most, if it had stopped already
        assert at_s == pytest.approx(1.0 + 199 / 16, abs=0.25)
    else:
        assert where == "dest"


def test_a_source_that_finishes_first_is_not_resumed_anywhere() -> None:
    pair = Pair()
    pair.begin(13.0)  # at its 193rd token of 200
    pair.abort(13.5)  # as the controller orders on InferenceFinished

    pair.clock.run()

    assert pair.ends == [MigrationFailed("m1", "r1", "i2", "not wanted")]
    assert pair.finished == [("source", 1.0 + 199 / 16, TOKENS)]


@given(st.integers(0, 120))
def test_a_destination_lost_at_any_moment_costs_no_token(sixty_fourths: int) -> None:
    pair = Pair()
    pair.begin(2.0)
    lost: list[SimSequence] = []

    def lose(_: object) -> None:
        lost.extend(pair.destination.halt())
        pair.migrating.destination_lost("i2")

    pair.clock.call_at(2.0 + sixty_fourths / 64, lose)
    pair.clock.run()

    made = [stream.made_tokens for stream in lost] + [tokens for _, _, tokens in pair.finished]
    left = [stream.left_tokens for stream in lost]
    assert len(made) == 1
    assert made[0] + sum(left) == TOKENS
    # nothing answers for a destination that is gone, but a move that was over had been answered
    assert len(pair.ends) == len(lost)


@given(st.integers(0, 120))
def test_a_source_lost_at_any_moment_is_in_one_place_only(sixty_fourths: int) -> None:
    pair = Pair()
    pair.begin(2.0)
    lost: list[SimSequence] = []

    def lose(_: object) -> None:
        lost.extend(pair.source.halt() + pair.migrating.in_flight("i1"))
        pair.migrating.source_lost("i1")

    pair.clock.call_at(2.0 + sixty_fourths / 64, lose)
    pair.abort(4.5)
    pair.clock.run()

    assert len(lost) + len(pair.finished) == 1
    assert len(pair.ends) == 1
    assert isinstance(pair.ends[0], MigrationFailed) == bool(lost)


def test_moves_are_found_by_either_end() -> None:
    pair = Pair()
    pair.migrating.begin(RESUME, pair.source, pair.destination)

    assert pair.migrating.of_instance("i1") == pair.migrating.of_instance("i2") == ["m1"]
    assert pair.migrating.of_instance("i3") == []


def test_aborting_what_is_not_under_way_answers_nothing() -> None:
    pair = Pair()

    pair.migrating.abort("m9", "not wanted")

    assert pair.ends == []
