"""The token clock against an engine with an event per iteration; joining and leaving requests."""

from collections.abc import Sequence
from math import inf
from random import Random
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sllmsim.clock import SimClock
from sllmsim.engine import BatchEngine, SimSequence
from sllmsim.timing import InferenceTiming
from sllmsim.timing.linear import LinearTiming
from tests.sim.stepping import Asked, step_by_step

FLAT = LinearTiming(fixed_s=0.25, prefill_fixed_s=0.5, prefill_per_token_s=0.0)
TIMINGS = (
    LinearTiming(fixed_s=0.02, prefill_per_token_s=0.0002),
    LinearTiming(fixed_s=0.02, per_request_s=0.004, prefill_per_token_s=0.001),
    LinearTiming(
        fixed_s=0.01,
        per_request_s=0.001,
        per_context_token_s=0.00001,
        prefill_floor_s=0.02,
        prefill_per_token_s=0.0001,
        prefill_per_token2_s=1e-7,
    ),
)


def by_token_clock(timing: InferenceTiming, requests: Sequence[Asked]) -> int:
    """Fill in the times of each request. Return the number of events."""
    clock = SimClock()
    asked = {f"r{i}": request for i, request in enumerate(requests)}

    def finished(sequence: SimSequence) -> None:
        request = asked[sequence.request_id]
        assert sequence.first_token_at_s is not None
        request.made, request.first_token_at_s = sequence.made_tokens, sequence.first_token_at_s
        request.finished_at_s = clock.now

    engine = BatchEngine(clock, timing, finished)
    for request_id, request in asked.items():
        sequence = SimSequence(request_id, request.input_tokens, request.output_tokens)
        clock.call_at(request.arrives_at_s, lambda _, s=sequence: engine.add(s))  # type: ignore[misc]
    num_events = 0
    while clock.peek() < inf:
        clock.step()
        num_events += 1
    return num_events


def drawn(seed: int, num_requests: int, rate: float) -> list[Asked]:
    rng, at_s, requests = Random(seed), 0.0, []
    for _ in range(num_requests):
        at_s += rng.expovariate(rate)
        requests.append(Asked(at_s, rng.randint(1, 400), 1 + int(rng.expovariate(1 / 60))))
    return requests


def p99(values: Sequence[float]) -> float:
    return sorted(values)[int(0.99 * len(values))]


@pytest.mark.parametrize("timing", TIMINGS)
@pytest.mark.parametrize("rate", [0.3, 1.0, 3.0])
def test_the_token_clock_agrees_with_an_event_per_iteration(
    timing: InferenceTiming, rate: float
) -> None:
    # Alone, a request takes a second or two: 0.3 to 3 of them a second make batches of up to ten.
    reference, ours = drawn(5, 400, rate), drawn(5, 400, rate)

    step_by_step(timing, reference)
    by_token_clock(timing, ours)

    assert [r.made for r in ours] == [r.output_tokens for r in reference]
    for name in ("first_token_at_s", "finished_at_s"):
        theirs = [getattr(r, name) - r.arrives_at_s for r in reference]
        mine = [getattr(r, name) - r.arrives_at_s for r in ours]
        assert fmean(mine) == pytest.approx(fmean(theirs), rel=0.01)
        assert p99(mine) == pytest.approx(p99(theirs), rel=0.02)


@given(
    st.lists(
        st.builds(Asked, st.integers(0, 16).map(lambda n: n / 8), st.just(4), st.integers(1, 9)),
        min_size=1,
        max_size=6,
    )
)
def test_with_equal_iterations_the_two_engines_agree_exactly(requests: list[Asked]) -> None:
    copies = [Asked(r.arrives_at_s, r.input_tokens, r.output_tokens) for r in requests]

    step_by_step(FLAT, requests)
    by_token_clock(FLAT, copies)

    assert copies == requests


def test_events_come_per_change_of_batch_and_not_per_token() -> None:
    few, many = [Asked(0.0, 4, 10)], [Asked(0.0, 4, 10_000)]

    assert by_token_clock(FLAT, few) == by_token_clock(FLAT, many)


class Bench:
    """An engine, its clock, and the finished requests with their instants."""

    def __init__(self) -> None:
        self.clock = SimClock()
        self.finished: list[tuple[float, str, int]] = []
        self.taken: list[tuple[float, str, int, int]] = []
        self.engine = BatchEngine(self.clock, FLAT, self._finished)

    def _finished(self, sequence: SimSequence) -> None:
        self.finished.append((self.clock.now, sequence.request_id, sequence.made_tokens))

    def add(self, at_s: float, request_id: str, tokens: int) -> None:
        sequence = SimSequence(request_id, 4, tokens)
        self.clock.call_at(at_s, lambda _: self.engine.add(sequence))

    def take(self, at_s: float, request_id: str) -> None:
        self.clock.call_at(at_s, lambda _: self.engine.take(request_id, self._taken))

    def _taken(self, sequence: SimSequence) -> None:
        tokens = (sequence.made_tokens, sequence.left_tokens)
        self.taken.append((self.clock.now, sequence.request_id, *tokens))


def test_a_request_alone_gets_its_first_token_from_the_prefill() -> None:
    bench = Bench()
    bench.add(0.0, "r0", 5)

    bench.clock.run()

    assert bench.finished == [(0.5 + 4 * 0.25, "r0", 5)]


def test_a_prefill_delays_the_batch_after_its_iteration() -> None:
    bench = Bench()
    bench.add(0.0, "r0", 5)
    bench.add(0.6, "r1", 2)  # begins at 0.75, when r0 has two tokens

    bench.clock.run()

    assert bench.finished == [(1.5, "r1", 2), (2.0, "r0", 5)]


def test_a_request_that_is_taken_leaves_after_the_iteration_with_its_tokens() -> None:
    bench = Bench()
    bench.add(0.0, "r0", 9)
    bench.take(0.8, "r0")

    bench.clock.run()

    assert bench.taken == [(1.0, "r0", 3, 6)]
    assert bench.finished == []


def test_a_request_that_finishes_with_the_iteration_is_not_taken() -> None:
    bench = Bench()
    bench.add(0.0, "r0", 3)
    bench.take(0.9, "r0")

    bench.clock.run()

    assert (bench.taken, bench.finished) == ([], [(1.0, "r0", 3)])


def test_a_request_that_is_taken_before_its_prefill_has_no_tokens() -> None:
    bench = Bench()
    bench.add(0.0, "r0", 9)
    bench.add(0.1, "r1", 9)
    bench.take(0.2, "r1")

    bench.clock.run()

    assert bench.taken == [(0.5, "r1", 0, 9)]
    assert bench.finished == [(0.5 + 8 * 0.25, "r0", 9)]


def test_a_request_that_is_taken_during_its_prefill_has_the_first_token() -> None:
    bench = Bench()
    bench.add(0.0, "r0", 9)
    bench.take(0.2, "r0")

    bench.clock.run()

    assert bench.taken == [(0.5, "r0", 1, 8)]


def test_taking_an_unknown_request_changes_nothing() -> None:
    bench = Bench()
    bench.add(0.0, "r0", 5)
    bench.take(0.6, "r1")

    bench.clock.run()

    assert (bench.taken, bench.finished) == ([], [(1.5, "r0", 5)])


def test_an_adopted_sequence_decodes_from_the_next_iteration_on() -> None:
    bench = Bench()
    bench.add(0.0, "r0", 9)
    sequence = SimSequence("r1", 4, 3)
    sequence.made_tokens = 7
    bench.clock.call_at(0.6, lambda _: bench.engine.adopt(sequence))

    bench.clock.run()

    assert bench.finished == [(0.75 + 3 * 0.25, "r1", 10), (0.5 + 8 * 0.25, "r0", 9)]


def test_recomputing_has_the_engine_to_itself_and_calls_back_at_its_end() -> None:
    bench, done = Bench(), []
    bench.add(0.0, "r0", 9)
    bench.clock.call_at(
        0.6, lambda _: bench.engine.recompute(0, 100, lambda: done.append(bench.clock.now))
    )

    bench.clock.run()

    assert done == [0.75 + 0.5]
    assert bench.finished == [(0.5 + 0.5 + 8 * 0.25, "r0", 9)]


def test_recomputing_costs_the_difference_of_the_two_prefills() -> None:
    timing = LinearTiming(fixed_s=1.0, prefill_per_token_s=0.0, prefill_per_token2_s=0.01)
    clock, done = SimClock(), []
    engine = BatchEngine(clock, timing, lambda sequence: None)

    engine.recompute(10, 5, lambda: done.append(clock.now))
    clock.run()

    assert done == [pytest.approx(0.01 * (15**2 - 10**2))]


@pytest.mark.parametrize(
    ("at_s", "tokens"), [(0.3, 0), (0.5, 1), (0.9, 2), (1.0, 3), (2.49, 8), (2.5, 8)]
)
def test_a_halted_engine_returns_its_sequences_with_their_tokens(at_s: float, tokens: int) -> None:
    bench = Bench()
    halted: list[SimSequence] = []
    bench.clock.call_at(at_s, lambda _: halted.extend(bench.engine.halt()))
    bench.add(0.0, "r0", 9)

    bench.clock.run()

    # The last token ends the request: it was not delivered if the end was not reported.
    assert [(s.made_tokens, s.left_tokens) for s in halted] == [(tokens, 9 - tokens)]
    assert bench.finished == []


@given(st.lists(st.tuples(st.integers(0, 40), st.sampled_from("abc")), max_size=8))
def test_made_and_left_tokens_add_up_whatever_joins_and_leaves(
    takes: list[tuple[int, str]],
) -> None:
    bench = Bench()
    wanted = {"a": 12, "b": 7, "c": 20}
    for number, (request_id, tokens) in enumerate(wanted.items()):
        bench.add(number / 4, request_id, tokens)

    def come_back(sequence: SimSequence) -> None:
        assert sequence.made_tokens + sequence.left_tokens == wanted[sequence.request_id]
        assert sequence.left_tokens > 0
        bench.engine.adopt(sequence) if sequence.made_tokens else bench.engine.add(sequence)

    for eighths, request_id in takes:
        bench.clock.call_at(
            eighths / 8,
            lambda _, r=request_id: bench.engine.take(r, come_back),  # type: ignore[misc]
        )
    bench.clock.run()

    assert {request_id: made for _, request_id, made in bench.finished} == wanted


def test_context_tokens_counts_whole_iterations_only() -> None:
    bench, seen = Bench(), []
    bench.add(0.0, "r0", 9)
    for at_s in (0.3, 0.6, 0.8, 1.1):
        bench.clock.call_at(at_s, lambda _: seen.append(bench.engine.context_tokens("r0")))

    bench.clock.run()

    assert seen == [4, 5, 6, 7]
    assert bench.engine.context_tokens("r0") == 0
