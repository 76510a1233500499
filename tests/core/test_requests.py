"""How a request ends, and what crosses its end."""

from sllmcore.build import PolicySettings
from sllmcore.commands import LaunchInstance, RejectRequest, StartRequest, StopInstance, StopRequest
from sllmcore.controller import ControllerSettings
from sllmcore.events import (
    InferenceFailed,
    InferenceFinished,
    InferenceStopped,
    InstanceLost,
    LoadFailed,
    LoadFinished,
    RequestCancelled,
)
from sllmcore.types import Checkpoint, LoadEstimate, StorageTier
from tests.builders import Bench, bench_of, in_dram, spec_of

A = Checkpoint("A", 16)
FROM_DRAM = LoadEstimate(StorageTier.DRAM, 0.0, 1.0, 0.0)


def bench(max_load_failures: int = 3) -> Bench:
    settings = PolicySettings(controller=ControllerSettings(max_load_failures=max_load_failures))
    return bench_of(settings, [A], [(spec_of("s0"), (in_dram("A", 16),))])


def loaded(instance_id: str) -> LoadFinished:
    return LoadFinished(instance_id, StorageTier.DRAM, 16, 1.0, 0.0)


def load(command_id: int, instance_id: str) -> LaunchInstance:
    return LaunchInstance(command_id, instance_id, "A", "s0", (0,), FROM_DRAM, (), None)


def running() -> Bench:
    """r1 runs on i1."""
    one = bench()
    one.arrive(1, "A", 0.0)
    one.handle(loaded("i1"), 1.0)
    return one


def test_a_cold_request_loads_then_runs_then_leaves_its_instance_idle() -> None:
    one = bench()

    told = [
        one.arrive(1, "A", 0.0),
        one.handle(loaded("i1"), 1.0),
        one.handle(InferenceFinished("r1", "i1", 15, 1.5), 5.0),
    ]

    assert told == [[load(1, "i1")], [StartRequest(2, "r1", "i1", 1)], []]
    assert one.controller.cluster.instances["i1"].idle_since_s == 5.0


def test_a_client_that_leaves_before_the_load_is_over_takes_the_load_along() -> None:
    one = bench()
    one.arrive(1, "A", 0.0)

    assert one.handle(RequestCancelled("r1"), 0.5) == [StopInstance(2, "i1")]


def test_a_load_that_finishes_after_its_unload_is_ignored() -> None:
    one = bench()
    one.arrive(1, "A", 0.0)
    one.handle(RequestCancelled("r1"), 0.5)

    assert one.handle(loaded("i1"), 1.0) == []
    assert one.controller.cluster.instances == {}


def test_a_client_that_leaves_while_its_request_runs_has_it_stopped() -> None:
    one = running()

    stop = one.handle(RequestCancelled("r1"), 2.0)
    stopped = one.handle(InferenceStopped("r1", "i1", 3), 2.25)

    assert stop == [StopRequest(3, "r1", "i1")]
    assert stopped == []
    assert one.controller.cluster.request_states == {}


def test_a_client_that_leaves_twice_has_left_once() -> None:
    one = running()
    one.handle(RequestCancelled("r1"), 2.0)

    assert one.handle(RequestCancelled("r1"), 2.0) == []


def test_an_answer_that_crosses_a_stop_ends_the_request() -> None:
    one = running()
    one.handle(RequestCancelled("r1"), 2.0)

    one.handle(InferenceFinished("r1", "i1", 3, 1.5), 2.25)

    assert one.controller.cluster.request_states == {}
    assert one.handle(InferenceStopped("r1", "i1", 3), 2.5) == []


def test_an_engine_that_breaks_a_request_off_has_it_rejected() -> None:
    assert running().handle(InferenceFailed("r1", "i1", "too long"), 2.0) == [
        RejectRequest(3, "r1", "too long")
    ]


def test_a_client_that_has_left_is_not_told_that_its_request_failed() -> None:
    one = running()
    one.handle(RequestCancelled("r1"), 2.0)

    assert one.handle(InferenceFailed("r1", "i1", "too long"), 2.25) == []
    assert one.controller.cluster.request_states == {}


def test_a_request_whose_client_left_is_not_run_again_when_its_engine_crashes() -> None:
    one = running()
    one.handle(RequestCancelled("r1"), 2.0)

    assert one.handle(InstanceLost("i1", "crash"), 2.25) == []
    assert one.controller.cluster.request_states == {}


def test_a_request_whose_engine_crashed_starts_again() -> None:
    one = running()

    again = one.handle(InstanceLost("i1", "crash"), 2.0)

    assert again == [load(3, "i2")]
    assert one.handle(loaded("i2"), 3.0) == [StartRequest(4, "r1", "i2", 2)]


def test_loads_are_tried_again_until_the_limit() -> None:
    one = bench(max_load_failures=2)
    one.arrive(1, "A", 0.0)

    first = one.handle(LoadFailed("i1", "bad disk"), 1.0)
    second = one.handle(LoadFailed("i2", "bad disk"), 2.0)

    assert first == [load(2, "i2")]
    assert second == [RejectRequest(3, "r1", "A cannot be loaded: bad disk")]


def test_an_answer_from_an_instance_that_the_request_has_left_is_ignored() -> None:
    one = running()
    one.handle(InstanceLost("i1", "crash"), 2.0)

    assert one.handle(InferenceFinished("r1", "i1", 15, 1.5), 2.0) == []
    assert "r1" in one.controller.cluster.request_states


def test_who_waits_takes_the_slot_that_becomes_free() -> None:
    one = running()
    one.arrive(2, "A", 2.0)

    assert one.handle(InferenceFinished("r1", "i1", 15, 1.5), 5.0) == [
        StartRequest(3, "r2", "i1", 1)
    ]
