"""Migrations between two engines: the rounds end, and may be aborted at any moment without loss."""

from dataclasses import replace
from math import inf
from typing import Literal, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sllmcore.commands import StartMigration
from sllmcore.errors import UsageError
from sllmcore.events import MigrationFailed, MigrationFinished
from sllmcore.migration_cost_model import MigrationRates
from sllmcore.migration_strategy import StrategyChooser
from sllmcore.types import Checkpoint
from sllmsim.clock import SimClock
from sllmsim.engine import BatchEngine, SimSequence
from sllmsim.links import Hop, Link, Links
from sllmsim.load_plan import LoadPart
from sllmsim.migrating import Migrating, MigrationRoute
from sllmsim.server import SimServer
from sllmsim.setup import MigrationSettings, SimServerSetup
from sllmsim.splitting import Splits
from sllmsim.timing.linear import LinearTiming
from tests.builders import hardware_of, setup_of

# A token every 1/16 s; a prefill of n tokens takes n / 64 s, four times as fast.
FAST = LinearTiming(fixed_s=0.0625, prefill_per_token_s=0.015625)
COMMAND = StartMigration(
    id=1, move_id="m1", request_id="r1", source_id="i1", destination_id="i2", expected_s=0.0
)
TOKENS = 200
KV_BYTES = 8  # of a token
RATES = MigrationRates(64.0, 512.0, 0.0, 0.0)  # those of the destination and of the link
Strategy = Literal["replay", "copy", "auto"]
STRATEGIES = st.sampled_from(get_args(Strategy))


class Pair:
    """r1 with 64 input tokens runs on `source` from 0 s; its first token comes at 1 s."""

    def __init__(
        self,
        settings: MigrationSettings | None = None,
        timing: LinearTiming = FAST,
        rates: MigrationRates = RATES,
    ) -> None:
        self.clock = SimClock()
        self.finished: list[tuple[str, float, int]] = []
        self.ends: list[MigrationFinished | MigrationFailed] = []
        self.source = BatchEngine(self.clock, timing, lambda s: self._finished("source", s))
        self.destination = BatchEngine(self.clock, timing, lambda s: self._finished("dest", s))
        settings = settings or MigrationSettings(message_s=0.0)
        self.links = Links(self.clock)
        self.splits = Splits(self.links, lambda *_: None)
        chooser = StrategyChooser(rates) if settings.strategy == "auto" else None
        self.migrating = Migrating(
            clock=self.clock,
            links=self.links,
            splits=self.splits,
            settings=settings,
            chooser=chooser,
            on_end=self.ends.append,
        )
        self.nic = Link("nic", 512.0)  # 8 bytes a token: 64 tokens/s, as fast as a prefill
        self.route = MigrationRoute(
            model="A",
            kv_bytes_per_token=KV_BYTES,
            source_server="s0",
            destination_server="s1",
            hops=(Hop(self.nic),),
        )
        self.source.add(SimSequence("r1", 64, TOKENS))

    def _finished(self, where: str, sequence: SimSequence) -> None:
        self.finished.append((where, self.clock.now, sequence.made_tokens))

    def begin(self, at_s: float) -> None:
        self.clock.call_at(
            at_s, lambda _: self.migrating.begin(COMMAND, self.source, self.destination, self.route)
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


@given(STRATEGIES, st.integers(0, 80))
def test_if_aborted_at_any_moment_the_source_continues_to_the_last_token(
    strategy: Strategy, sixty_fourths: int
) -> None:
    pair = Pair(MigrationSettings(strategy, message_s=0.0))
    pair.begin(2.0)
    pair.abort(2.0 + sixty_fourths / 64)

    pair.clock.run()

    (end,) = pair.ends
    ((where, at_s, tokens),) = pair.finished
    assert tokens == TOKENS
    if isinstance(end, MigrationFailed):
        assert where == "source"
        # it pauses for the last gap at most, if it had stopped already
        assert at_s == pytest.approx(1.0 + 199 / 16, abs=0.25)
    else:
        assert where == "dest"


def test_a_request_that_finishes_at_its_source_does_not_migrate() -> None:
    pair = Pair()
    pair.begin(13.0)  # at its 193rd token of 200
    pair.abort(13.5)  # as the controller orders on InferenceFinished

    pair.clock.run()

    assert pair.ends == [MigrationFailed("m1", "r1", "i2", "not wanted")]
    assert pair.finished == [("source", 1.0 + 199 / 16, TOKENS)]


@given(STRATEGIES, st.integers(0, 120))
def test_a_destination_lost_at_any_moment_costs_no_token(
    strategy: Strategy, sixty_fourths: int
) -> None:
    pair = Pair(MigrationSettings(strategy, message_s=0.0))
    pair.begin(2.0)
    lost: list[SimSequence] = []

    def lose(_: object) -> None:
        lost.extend(pair.destination.halt())
        pair.migrating.destination_lost("i2")

    pair.clock.call_at(2.0 + sixty_fourths / 64, lose)
    pair.clock.run()

    made = [sequence.made_tokens for sequence in lost] + [tokens for _, _, tokens in pair.finished]
    left = [sequence.left_tokens for sequence in lost]
    assert len(made) == 1
    assert made[0] + sum(left) == TOKENS
    # no event answers for a lost destination, but a migration that was over had been answered
    assert len(pair.ends) == len(lost)
    assert not pair.nic.transfers


@given(STRATEGIES, st.integers(0, 120))
def test_a_sequence_is_in_one_place_when_its_source_is_lost_at_any_moment(
    strategy: Strategy, sixty_fourths: int
) -> None:
    pair = Pair(MigrationSettings(strategy, message_s=0.0))
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
    assert not pair.nic.transfers


def test_migrations_are_found_by_either_end() -> None:
    pair = Pair()
    pair.migrating.begin(COMMAND, pair.source, pair.destination, pair.route)

    assert pair.migrating.of_instance("i1") == pair.migrating.of_instance("i2") == ["m1"]
    assert pair.migrating.of_instance("i3") == []


def test_aborting_an_unknown_migration_reports_nothing() -> None:
    pair = Pair()

    pair.migrating.abort("m9", "not wanted")

    assert pair.ends == []


def test_a_copy_makes_the_rounds_of_a_replay_on_a_link_as_fast_as_the_destination() -> None:
    replay, copy = (Pair(MigrationSettings(each, message_s=0.0)) for each in ("replay", "copy"))
    for pair in (replay, copy):
        pair.begin(2.0)
        pair.clock.run()

    assert copy.ends == replay.ends
    assert copy.finished == replay.finished
    assert replay.nic.bytes_moved == 0
    assert copy.nic.bytes_moved == KV_BYTES * (81 + 20 + 5 + 2)


def test_a_copy_does_not_wait_for_the_engine_of_the_destination() -> None:
    pair = Pair(MigrationSettings("copy", message_s=0.0))
    pair.clock.call_at(1.9, lambda _: pair.destination.add(SimSequence("r2", 6400, 1)))  # 100 s
    pair.begin(2.0)

    pair.clock.run(until=10.0)

    (end,) = pair.ends
    assert isinstance(end, MigrationFinished)
    assert end.resume_s < 2.0


def test_a_copy_shares_its_link_with_other_transfers() -> None:
    pair = Pair(MigrationSettings("copy", message_s=0.0))
    pair.links.start(1e6, pair.route.hops, lambda: None)
    pair.begin(2.0)

    pair.clock.run(until=3.0 + 2 * 81 / 64)

    assert pair.ends == []
    assert pair.nic.transfers


def test_a_rest_of_a_split_load_gives_way_to_a_copy() -> None:
    pair = Pair(MigrationSettings("copy", message_s=0.0))
    helped = SimServer(SimServerSetup("s2", hardware_of()))
    pair.splits.begin("i9", helped, (helped,))
    pair.splits.join("i9", LoadPart(1000, (Hop(helped.nic),), inf))
    pair.splits.go_on()
    pair.route = MigrationRoute(
        model="A",
        kv_bytes_per_token=KV_BYTES,
        source_server="s0",
        destination_server="s2",
        hops=(Hop(helped.nic),),
    )
    carried: list[int] = []
    pair.begin(2.0)
    pair.clock.call_at(2.1, lambda _: carried.append(len(helped.nic.transfers)))

    pair.clock.run()

    assert carried == [1]
    assert helped.nic.bytes_moved > 1000  # the rest of the load came after the copy


def test_a_hybrid_recomputes_one_half_while_the_other_is_copied() -> None:
    """Both are equally fast, so that a hybrid saves half of the time; a quarter is asked for."""
    pair = Pair(MigrationSettings("auto", message_s=0.0))
    pair.begin(2.0)
    carried: list[float] = []
    pair.clock.call_at(2.0 + 41 / 64 + 0.01, lambda _: carried.append(pair.nic.bytes_moved))

    pair.clock.run()

    (end,) = pair.ends
    assert isinstance(end, MigrationFinished)
    assert carried == [KV_BYTES * 40]  # of 81 tokens; later rounds are copied whole
    assert end.resume_s < 81 / 64


def test_the_choice_is_learnt_from_finished_migrations() -> None:
    """The link turns out to be slower than the destination: the second migration is a replay."""
    pair = Pair(MigrationSettings("auto", message_s=0.0), rates=MigrationRates(64.0, 51_200.0))
    pair.links.set_bandwidth(pair.nic, 256.0)
    pair.begin(2.0)
    pair.clock.run()
    (end,) = pair.ends
    assert isinstance(end, MigrationFinished)
    copied_bytes = pair.nic.bytes_moved

    pair.destination.add(SimSequence("r2", 64, TOKENS))
    pair.clock.call_in(
        4.0,
        lambda _: pair.migrating.begin(
            StartMigration(
                id=2,
                move_id="m2",
                request_id="r2",
                source_id="i2",
                destination_id="i1",
                expected_s=0.0,
            ),
            pair.destination,
            pair.source,
            pair.route,
        ),
    )
    pair.clock.run()

    assert copied_bytes > 0
    assert len(pair.ends) == 2
    assert pair.nic.bytes_moved == copied_bytes


def test_a_cache_of_unknown_size_is_replayed_by_choice_and_refused_otherwise() -> None:
    pair = Pair(MigrationSettings("auto", message_s=0.0), rates=MigrationRates(1.0, 1e12))
    pair.route = MigrationRoute(
        model="A",
        kv_bytes_per_token=0,
        source_server="s0",
        destination_server="s1",
        hops=(Hop(pair.nic),),
    )
    pair.begin(2.0)
    pair.clock.run()
    assert pair.nic.bytes_moved == 0

    setup = setup_of([SimServerSetup("s0", hardware_of())], [Checkpoint("A", 1)])
    with pytest.raises(UsageError, match="cannot copy the KV cache of A: set its kv_bytes_per"):
        replace(setup, migration=MigrationSettings("copy"))
    with pytest.raises(UsageError, match="strategy must be replay, copy or auto, got 'move'"):
        MigrationSettings("move")  # type: ignore[arg-type]
