"""The source of a migration: its rounds, their end, and a destination that does not answer."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from sllmcore.migration_rounds import RoundSettings
from sllmreal.migration.messages import (
    Ack,
    Delta,
    Final,
    LogDelta,
    Position,
    RejectMigration,
    ToDestination,
)
from sllmreal.migration.source import MigrationSource, SourceOptions

OPTIONS = SourceOptions(
    RoundSettings(max_rounds=4), stall_s=10.0, hold_s=5.0, delta_bytes=40, window_bytes=80
)


class Counting:
    """A workload that only counts. Its log has an entry of four bytes per unit."""

    def __init__(self, log: int) -> None:
        self.log = log
        self.held = False
        self.num_releases = 0

    @property
    def position(self) -> Position:
        return Position(self.log, self.log)

    def delta(self, since: Position, until: Position, max_bytes: int) -> Delta | None:
        if since.log >= until.log:
            return None
        upto = min(until.log, since.log + max_bytes // 4)
        return LogDelta(since.log, upto, memoryview(bytes(4 * (upto - since.log))))

    def hold(self) -> None:
        self.held = True

    def release(self) -> None:
        self.held = False
        self.num_releases += 1


class Prefilled(Counting):
    """A workload with a prompt of twenty units before its log."""

    @property
    def position(self) -> Position:
        return Position(self.log, 20 + self.log)


def spans(messages: list[ToDestination]) -> list[tuple[int, int]]:
    return [(one.first, one.upto) for one in messages if isinstance(one, LogDelta)]


def source_of(workload: Counting, options: SourceOptions = OPTIONS) -> MigrationSource:
    return MigrationSource(workload, Position(0, 0), options, 0.0)


def answer(source: MigrationSource, position: int, now_s: float = 1.0) -> list[ToDestination]:
    source.receive(Ack(position, 0, position), now_s)
    return source.advance(now_s)


def test_a_round_sends_the_log_up_to_its_begin() -> None:
    workload = Counting(15)
    source = source_of(workload)
    workload.log = 18

    assert spans(source.advance(0.0)) == [(0, 10), (10, 15)]


def test_no_more_is_in_flight_than_the_window() -> None:
    source = source_of(Counting(100))

    assert spans(source.advance(0.0)) == [(0, 10), (10, 20)]
    assert spans(answer(source, 10)) == [(20, 30)]


def test_another_round_sends_the_gap_while_it_shrinks() -> None:
    workload = Counting(20)
    source = source_of(workload)
    source.advance(0.0)
    workload.log = 29

    assert spans(answer(source, 20)) == [(20, 29)]
    assert not workload.held


def test_a_small_gap_is_sent_while_the_workload_holds() -> None:
    workload = Counting(20)
    source = source_of(workload)
    source.advance(0.0)
    workload.log = 22

    messages = answer(source, 20)

    assert workload.held
    assert messages[0] == Final(22, 22)
    assert spans(messages) == [(20, 22)]


def test_a_gap_that_does_not_shrink_ends_the_rounds() -> None:
    workload = Counting(20)
    source = source_of(workload)
    for log in (29, 37):
        source.advance(0.0)
        known, workload.log = workload.log, log
        answer(source, known)

    assert (source.num_rounds, workload.held) == (2, True)


def test_the_rounds_are_bounded_even_if_every_gap_shrinks() -> None:
    workload = Counting(4000)
    patient = SourceOptions(RoundSettings(final_gap=0, shrink=1.0, max_rounds=4))
    source = source_of(workload, patient)
    for gap in (900, 800, 700, 600):
        assert not workload.held
        source.advance(0.0)
        known, workload.log = workload.log, workload.log + gap
        answer(source, known)

    assert (source.num_rounds, workload.held) == (4, True)


def test_a_source_without_deltas_sends_an_empty_one() -> None:
    """A destination that is ready from the start needs a message to acknowledge."""
    source = MigrationSource(Prefilled(0), Position(0, 0), OPTIONS, 0.0)

    assert spans(source.advance(0.0)) == [(0, 0)]
    assert source.advance(0.1) == []
    source.receive(Ack(0, 0, 20), 1.0)
    assert source.advance(1.0) == [Final(0, 20)]


def test_the_deadlines_of_a_slow_workload_are_longer() -> None:
    """At a token per second, 256 tokens may take the destination 256 s."""
    workload = Counting(20)
    source = source_of(workload)
    source.advance(0.0)
    workload.log = 22
    source.advance(2.0)

    assert source.next_wakeup_s == 10.0 + 256.0
    workload.log = 23
    source.receive(Ack(20, 0, 20), 3.0)
    source.advance(3.0)
    workload.log = 24
    answer(source, 23, now_s=4.0)
    assert workload.held
    assert source.next_wakeup_s == 4.0 + 5.0 + 2.0


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 60)), min_size=1, max_size=30))
def test_the_rounds_end_at_any_two_paces(paces: list[tuple[int, int]]) -> None:
    """`paces` has the units per second of the workload and of the destination.

    A round takes at most as many seconds as its gap has units. Each gap that is not small is at
    most `shrink` times the least before it plus a unit; small ones add 10 rounds of 16. Seeded:
    rounds that are not counted, with gaps of 3 without end.
    """
    workload, ready = Counting(100), 0
    source = MigrationSource(workload, Position(0, 0), SourceOptions(), 0.0)
    source.advance(0.0)
    for second, (done, caught_up) in enumerate(itertools.cycle(paces)):
        workload.log += done
        ready = min(ready + caught_up, source.target.state)
        source.receive(Ack(source.target.log, 0, ready), float(second))
        if any(isinstance(one, Final) for one in source.advance(float(second))):
            break
        assert second < 100 + 40 * 100 * 4 + 160

    assert workload.held and source.num_rounds <= 10


def test_without_progress_the_migration_fails_and_the_workload_was_not_held() -> None:
    workload = Counting(20)
    source = source_of(workload)
    source.advance(0.0)
    source.receive(Ack(5, 0, 0), 4.0)

    assert source.next_wakeup_s == 14.0
    assert source.advance(14.0) == []
    assert source.failure is not None
    assert workload.num_releases == 0


def test_a_held_workload_is_released_when_it_is_not_committed_in_time() -> None:
    workload = Counting(20)
    source = source_of(workload)
    source.advance(0.0)
    answer(source, 20, now_s=1.0)
    held = workload.held

    source.advance(6.0)

    assert held and not workload.held
    assert source.failure == "the migration was not committed in time"


def test_a_destination_that_rejects_ends_the_migration() -> None:
    workload = Counting(20)
    source = source_of(workload)

    source.receive(RejectMigration("no room"), 1.0)

    assert source.failure == "the destination refused: no room"
    assert source.advance(1.0) == []
    assert source.next_wakeup_s is None


def test_on_a_link_that_loses_messages_the_source_sends_again() -> None:
    lossy = SourceOptions(delta_bytes=40, window_bytes=80, resend_s=0.5)
    source = source_of(Counting(30), lossy)
    source.advance(0.0)
    source.receive(Ack(10, 0, 0), 0.1)
    source.advance(0.1)

    assert spans(source.advance(0.7)) == [(10, 20), (20, 30)]


def test_acknowledgements_out_of_order_change_nothing() -> None:
    workload = Counting(20)
    source = source_of(workload)
    source.advance(0.0)
    answer(source, 20)

    assert answer(source, 5) == []
    assert source.failure is None
