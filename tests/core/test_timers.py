"""Deadlines and keep-alives: the times of wake-ups and the commands at them."""

from dataclasses import replace

from sllmcore.build import PolicySettings
from sllmcore.commands import StartRequest, StopInstance, TimeOutRequest
from sllmcore.controller import ControllerSettings
from sllmcore.events import (
    InferenceFinished,
    InstanceLost,
    LoadFinished,
    RequestCancelled,
    ServerLost,
    WakeUp,
)
from sllmcore.residency import LruResidency
from sllmcore.types import Checkpoint, StorageTier
from tests.builders import Bench, bench_of, in_dram, on_ssd, spec_of

A = Checkpoint("A", 16)
LOADED = LoadFinished(
    instance_id="i1", source=StorageTier.DRAM, num_bytes=16, transfer_s=1.0, startup_s=0.0
)
PATIENT = PolicySettings(controller=ControllerSettings(startup_timeout_s=10.0))


def bench(policy: PolicySettings = PATIENT) -> Bench:
    return bench_of(policy, [A], [(spec_of("s0"), (in_dram("A", 16),))])


def test_a_request_that_does_not_start_in_time_is_timed_out_at_its_deadline() -> None:
    one = bench()
    one.arrive(1, "A", 0.0)
    one.arrive(2, "A", 3.0)
    one.handle(LOADED, 1.0)

    asked_s = one.controller.next_wakeup_s
    commands = one.handle(WakeUp(), 13.0)

    assert asked_s == 13.0  # r1 runs, r2 waits
    assert commands == [TimeOutRequest(3, "r2")]
    assert one.controller.next_wakeup_s is None


def test_waking_up_early_does_nothing() -> None:
    one = bench()
    one.arrive(1, "A", 0.0)

    assert one.handle(WakeUp(), 9.875) == []
    assert one.controller.next_wakeup_s == 10.0


def test_a_cancelled_request_needs_no_wakeup() -> None:
    one = bench()
    one.arrive(1, "A", 0.0)

    one.handle(RequestCancelled("r1"), 2.0)

    assert one.controller.next_wakeup_s is None


def test_a_request_that_lost_its_last_server_gets_a_new_deadline() -> None:
    one = bench()
    one.arrive(1, "A", 0.0)
    one.handle(LOADED, 1.0)

    one.handle(ServerLost("s0"), 4.0)

    assert one.controller.next_wakeup_s == 14.0
    assert one.handle(WakeUp(), 10.0) == []  # the first deadline was met
    assert one.handle(WakeUp(), 14.0) == [TimeOutRequest(3, "r1")]


def test_a_request_that_loses_one_slot_and_gets_another_in_one_event_has_no_deadline() -> None:
    # r1 is to migrate from i1 to i2, to free a GPU for B. r3 is bound to i2, which is lost. So r1
    # stays on i1, and r3 gets the other slot of i1.
    b = Checkpoint("B", 16)
    servers = [
        (spec_of("s0"), (in_dram("A", 16), in_dram("B", 16))),
        (spec_of("s1"), (on_ssd("A", 16),)),
    ]
    two = bench_of(PATIENT, [A, b], servers, num_slots=2)
    two.arrive(1, "A", 0.0)
    two.handle(LOADED, 1.0)
    two.arrive(2, "B", 2.0)
    two.arrive(3, "A", 2.5)

    lost = two.handle(InstanceLost("i2", "the engine crashed"), 3.0)
    woken = two.handle(WakeUp(), 13.0)

    assert StartRequest(4, "r3", "i1", 1) in lost
    assert [c.request_id for c in woken if isinstance(c, TimeOutRequest)] == ["r2"]


def test_a_request_that_lost_its_load_keeps_its_first_deadline() -> None:
    one = bench()
    one.arrive(1, "A", 0.0)

    one.handle(ServerLost("s0"), 4.0)

    assert one.controller.next_wakeup_s == 10.0


def test_without_a_time_out_there_are_no_deadlines() -> None:
    patient = replace(PATIENT, controller=ControllerSettings(startup_timeout_s=None))
    one = bench(patient)
    one.arrive(1, "A", 0.0)
    one.handle(LOADED, 1.0)

    one.handle(ServerLost("s0"), 4.0)

    assert one.controller.next_wakeup_s is None


def test_an_idle_instance_stops_at_the_end_of_its_keep_alive() -> None:
    one = bench(replace(PATIENT, residency=LruResidency(keep_alive_s=5.0)))
    one.arrive(1, "A", 0.0)
    one.handle(LOADED, 1.0)

    one.handle(InferenceFinished("r1", "i1", 15, 1.5), 5.0)

    assert one.controller.next_wakeup_s == 10.0
    assert one.handle(WakeUp(), 10.0) == [StopInstance(3, "i1")]
    assert one.controller.next_wakeup_s is None


def test_keep_alive_by_load_factor_lasts_as_long_as_the_load_did() -> None:
    one = bench(replace(PATIENT, residency=LruResidency(keep_alive_load_factor=2.0)))
    one.arrive(1, "A", 0.0)
    one.handle(LOADED, 1.5)

    one.handle(InferenceFinished("r1", "i1", 15, 1.5), 5.0)

    assert one.controller.next_wakeup_s == 5.0 + 2 * 1.5


def test_a_request_in_time_cancels_the_keep_alive() -> None:
    one = bench(replace(PATIENT, residency=LruResidency(keep_alive_s=5.0)))
    one.arrive(1, "A", 0.0)
    one.handle(LOADED, 1.0)
    one.handle(InferenceFinished("r1", "i1", 15, 1.5), 5.0)

    assert one.arrive(2, "A", 10.0) == [StartRequest(3, "r2", "i1", 1)]
    assert one.handle(WakeUp(), 10.0) == []
    one.handle(InferenceFinished("r2", "i1", 15, 10.5), 14.0)
    assert one.controller.next_wakeup_s == 19.0


def test_the_lower_bound_is_not_after_the_next_wakeup() -> None:
    one = bench(replace(PATIENT, residency=LruResidency(keep_alive_s=5.0)))

    one.arrive(1, "A", 0.0)
    bounds = [one.controller.wakeup_not_before_s]
    wakeups = [one.controller.next_wakeup_s]
    one.handle(LOADED, 1.0)
    one.handle(InferenceFinished("r1", "i1", 15, 1.5), 2.0)
    bounds.append(one.controller.wakeup_not_before_s)
    wakeups.append(one.controller.next_wakeup_s)

    assert wakeups == [10.0, 7.0]
    assert bounds[0] <= 10.0 and bounds[1] <= 7.0
