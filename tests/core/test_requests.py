"""The ends of a request, and events that cross them."""

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
    return LoadFinished(
        instance_id=instance_id,
        source=StorageTier.DRAM,
        num_bytes=16,
        transfer_s=1.0,
        startup_s=0.0,
    )


def load(command_id: int, instance_id: str) -> LaunchInstance:
    return LaunchInstance(
        id=command_id,
        instance_id=instance_id,
        model="A",
        server_id="s0",
        gpu_indices=(0,),
        estimate=FROM_DRAM,
        cache_in=(),
        after=None,
    )


def running() -> Bench:
    """Return a bench in which r1 runs on i1."""
    one = bench()
    one.arrive(1, "A", 0.0)
    one.handle(loaded("i1"), 1.0)
    return one


def test_a_cold_request_loads_then_runs_then_leaves_its_instance_idle() -> None:
    one = bench()

    commands = [
        one.arrive(1, "A", 0.0),
        one.handle(loaded("i1"), 1.0),
        one.handle(InferenceFinished("r1", "i1", 15, 1.5), 5.0),
    ]

    assert commands == [[load(1, "i1")], [StartRequest(2, "r1", "i1", 1)], []]
    assert one.controller.cluster.instances["i1"].idle_since_s == 5.0


def test_cancelling_the_only_request_cancels_the_load() -> None:
    one = bench()
    one.arrive(1, "A", 0.0)

    assert one.handle(RequestCancelled("r1"), 0.5) == [StopInstance(2, "i1")]


def test_a_load_that_finishes_after_its_instance_was_stopped_is_ignored() -> None:
    one = bench()
    one.arrive(1, "A", 0.0)
    one.handle(RequestCancelled("r1"), 0.5)

    assert one.handle(loaded("i1"), 1.0) == []
    assert one.controller.cluster.instances == {}


def test_cancelling_a_running_request_stops_it() -> None:
    one = running()

    stop = one.handle(RequestCancelled("r1"), 2.0)
    stopped = one.handle(InferenceStopped("r1", "i1", 3), 2.25)

    assert stop == [StopRequest(3, "r1", "i1")]
    assert stopped == []
    assert one.controller.cluster.request_states == {}


def test_cancelling_a_request_twice_stops_it_once() -> None:
    one = running()
    one.handle(RequestCancelled("r1"), 2.0)

    assert one.handle(RequestCancelled("r1"), 2.0) == []


def test_a_completion_that_crosses_a_stop_ends_the_request() -> None:
    one = running()
    one.handle(RequestCancelled("r1"), 2.0)

    one.handle(InferenceFinished("r1", "i1", 3, 1.5), 2.25)

    assert one.controller.cluster.request_states == {}
    assert one.handle(InferenceStopped("r1", "i1", 3), 2.5) == []


def test_a_request_that_fails_in_its_engine_is_rejected() -> None:
    assert running().handle(InferenceFailed("r1", "i1", "too long"), 2.0) == [
        RejectRequest(3, "r1", "too long")
    ]


def test_a_cancelled_request_that_fails_is_not_rejected() -> None:
    one = running()
    one.handle(RequestCancelled("r1"), 2.0)

    assert one.handle(InferenceFailed("r1", "i1", "too long"), 2.25) == []
    assert one.controller.cluster.request_states == {}


def test_a_cancelled_request_does_not_restart_after_a_crash() -> None:
    one = running()
    one.handle(RequestCancelled("r1"), 2.0)

    assert one.handle(InstanceLost("i1", "crash"), 2.25) == []
    assert one.controller.cluster.request_states == {}


def test_a_request_restarts_after_a_crash_of_its_engine() -> None:
    one = running()

    again = one.handle(InstanceLost("i1", "crash"), 2.0)

    assert again == [load(3, "i2")]
    assert one.handle(loaded("i2"), 3.0) == [StartRequest(4, "r1", "i2", 2)]


def test_loads_are_repeated_up_to_the_limit() -> None:
    one = bench(max_load_failures=2)
    one.arrive(1, "A", 0.0)

    first = one.handle(LoadFailed("i1", "bad disk"), 1.0)
    second = one.handle(LoadFailed("i2", "bad disk"), 2.0)

    assert first == [load(2, "i2")]
    assert second == [RejectRequest(3, "r1", "A cannot be loaded: bad disk")]


def test_an_answer_from_a_former_instance_is_ignored() -> None:
    one = running()
    one.handle(InstanceLost("i1", "crash"), 2.0)

    assert one.handle(InferenceFinished("r1", "i1", 15, 1.5), 2.0) == []
    assert "r1" in one.controller.cluster.request_states


def test_a_waiting_request_takes_the_slot_that_becomes_free() -> None:
    one = running()
    one.arrive(2, "A", 2.0)

    assert one.handle(InferenceFinished("r1", "i1", 15, 1.5), 5.0) == [
        StartRequest(3, "r2", "i1", 1)
    ]
