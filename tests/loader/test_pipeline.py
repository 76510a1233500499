"""Stages overlap; an error or a cancellation stops all stages, and no thread is left."""

import threading
import time

import pytest

from sllmreal.loader.errors import LoadCancelledError
from sllmreal.loader.pipeline import Cancellation, PipelineStage, run_pipeline


def test_every_chunk_passes_every_stage_in_turn() -> None:
    passed: list[list[int]] = [[], []]

    run_pipeline(
        [PipelineStage("first", passed[0].append, 1), PipelineStage("second", passed[1].append, 1)],
        range(100),
        4,
    )

    assert passed == [list(range(100)), list(range(100))]


def test_a_stage_works_while_the_next_has_the_chunk_before() -> None:
    """Each chunk in the first stage waits for the one before it in the second stage."""
    meeting = threading.Barrier(2, timeout=20.0)
    num_chunks = 20

    def first(chunk: int) -> None:
        if chunk > 0:
            meeting.wait()

    def second(chunk: int) -> None:
        if chunk < num_chunks - 1:
            meeting.wait()

    run_pipeline(
        [PipelineStage("first", first, 1), PipelineStage("second", second, 1)], range(num_chunks), 4
    )


def test_at_most_the_queues_capacity_waits_between_two_stages() -> None:
    lock = threading.Lock()
    between = [0]
    most = [0]

    def first(chunk: int) -> None:
        with lock:
            between[0] += 1
            most[0] = max(most[0], between[0])

    def second(chunk: int) -> None:
        time.sleep(0.001)
        with lock:
            between[0] -= 1

    run_pipeline(
        [PipelineStage("first", first, 1), PipelineStage("second", second, 1)], range(50), 3
    )

    assert most[0] <= 3 + 2  # the queue, and one chunk in each stage


@pytest.mark.parametrize("at", [0, 1, 17, 49])
@pytest.mark.parametrize("stage", [0, 1, 2])
def test_the_first_error_stops_all_stages_and_is_raised(at: int, stage: int) -> None:
    def fail(chunk: int) -> None:
        if chunk == at:
            raise OSError(5, "broken")

    stages = [PipelineStage(f"s{number}", lambda chunk: None, 2) for number in range(3)]
    stages[stage] = PipelineStage("bad", fail, 2)
    before = threading.active_count()

    with pytest.raises(OSError, match="broken"):
        run_pipeline(stages, range(50), 2)

    assert threading.active_count() == before


@pytest.mark.parametrize("at", range(0, 40, 3))
def test_cancellation_at_any_chunk_stops_all_stages(at: int) -> None:
    cancellation = Cancellation()
    before = threading.active_count()

    def work(chunk: int) -> None:
        if chunk == at:
            cancellation.cancel()

    with pytest.raises(LoadCancelledError):
        run_pipeline(
            [PipelineStage("a", work, 2), PipelineStage("b", lambda chunk: None, 1)],
            range(40),
            2,
            cancellation,
        )

    assert threading.active_count() == before


def test_a_cancelled_cancellation_stops_a_later_run_at_once() -> None:
    cancellation = Cancellation()
    cancellation.cancel()
    done: list[int] = []

    with pytest.raises(LoadCancelledError):
        run_pipeline([PipelineStage("a", done.append, 1)], range(1000), 2, cancellation)

    assert len(done) < 1000


def test_an_error_of_the_feeder_ends_the_threads() -> None:
    before = threading.active_count()

    def chunks() -> object:
        yield 0
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_pipeline([PipelineStage("a", lambda chunk: None, 3)], chunks(), 2)  # type: ignore[arg-type]

    assert threading.active_count() == before
