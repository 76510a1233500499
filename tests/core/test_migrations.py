"""A migration in its seven steps, and whatever can overtake it, as facts of the controller.

A runs on i1 of s0 as r1; B (r2) wants that GPU. i2 is A's destination on s1, i3 is B's instance:
reserved until i1 has left.
"""

import pytest

from sllmcore.build import PolicySettings
from sllmcore.cluster.request_state import RequestState
from sllmcore.commands import (
    AbortMigration,
    Command,
    LaunchInstance,
    StartMigration,
    StartRequest,
    StopInstance,
    StopRequest,
)
from sllmcore.errors import ControlError
from sllmcore.events import (
    Event,
    InferenceFinished,
    InferenceStopped,
    InstanceLost,
    LoadFailed,
    LoadFinished,
    MigrationFailed,
    MigrationFinished,
    RequestCancelled,
    ServerJoined,
    ServerLost,
    WakeUp,
)
from sllmcore.residency import LruResidency
from sllmcore.types import Checkpoint, StorageTier
from tests.builders import Bench, bench_of, in_dram, on_ssd, spec_of

A, B = Checkpoint("A", 8), Checkpoint("B", 32)
FINISHED = InferenceFinished("r1", "i1", 15, 1.0)
MOVED = MigrationFinished("m1", "r1", "i1", "i2", 8, 0.25, 0.0)
NOT_MOVED = MigrationFailed("m1", "r1", "i2", "some reason")


def loaded(instance_id: str) -> LoadFinished:
    return LoadFinished(instance_id, StorageTier.SSD, 8, 1.0, 0.0)


def two_servers(num_slots: int = 1) -> Bench:
    return bench_of(
        PolicySettings(residency=LruResidency(caches_dram=False)),
        [A, B],
        [(spec_of("s0"), (in_dram("A", 8), in_dram("B", 32))), (spec_of("s1"), (on_ssd("A", 8),))],
        num_slots,
    )


def asked() -> Bench:
    """Step 1: the destination loads (command 3)."""
    bench = two_servers()
    bench.arrive(1, "A", 0.0)
    bench.handle(loaded("i1"), 0.5)
    bench.arrive(2, "B", 2.0)
    return bench


def resuming() -> Bench:
    """Step 2: the destination is there and `StartMigration` is out (command 4)."""
    bench = asked()
    bench.handle(loaded("i2"), 3.0)
    return bench


def kinds(commands: list[Command]) -> list[tuple[type[Command], str]]:
    """Each command with the model it loads, or the instance or request that it is about."""
    said: list[tuple[type[Command], str]] = []
    for command in commands:
        match command:
            case LaunchInstance(_, _, model):
                said.append((LaunchInstance, model))
            case StopInstance(_, instance_id):
                said.append((StopInstance, instance_id))
            case _:
                said.append((type(command), getattr(command, "request_id", "")))
    return said


def placed(bench: Bench) -> dict[str, str | None]:
    """Where each request is bound or runs."""
    request_states = bench.controller.cluster.request_states
    return {
        request_id: next(
            (i.id for i in bench.controller.cluster.instances.values() if request_id in i.requests),
            None,
        )
        for request_id in request_states
    }


def test_the_seven_steps() -> None:
    bench = asked()

    step_1 = bench.log[-1][2]
    step_2 = bench.handle(loaded("i2"), 3.0)
    step_6 = bench.handle(MOVED, 3.25)
    newcomer = bench.handle(loaded("i3"), 5.25)
    finished = bench.handle(InferenceFinished("r1", "i2", 15, 1.0), 6.0)

    assert kinds(step_1) == [(LaunchInstance, "A")]
    (resume,) = step_2
    assert isinstance(resume, StartMigration)
    assert resume == StartMigration(4, "m1", "r1", "i1", "i2", resume.expected_s)
    assert resume.expected_s == pytest.approx(0.05, rel=0.3)
    assert kinds(step_6) == [(StopInstance, "i1"), (LaunchInstance, "B")]
    assert newcomer == [StartRequest(7, "r2", "i3", 1)]
    assert finished == []
    assert bench.controller.cluster.instances["i2"].idle_since_s == 6.0


def test_with_an_idle_instance_of_the_model_elsewhere_nothing_is_loaded() -> None:
    bench = two_servers()
    for number in (1, 2):
        bench.arrive(number, "A", 0.0)
        bench.handle(loaded(f"i{number}"), 1.0)
    bench.handle(InferenceFinished("r2", "i2", 15, 1.0), 2.0)

    commands = bench.arrive(3, "B", 3.0)

    assert kinds(commands) == [(StartMigration, "r1")]


def test_an_inference_that_moves_is_not_offered_to_anyone_else() -> None:
    bench = asked()
    bench.handle(ServerJoined(spec_of("s2"), (on_ssd("A", 8),)), 2.0)
    bench.arrive(3, "B", 2.0)

    resumed = bench.handle(loaded("i2"), 3.0)

    assert kinds(resumed) == [(StartMigration, "r1")]


# Case 1: the inference completes at the source.


def test_a_source_that_finishes_before_the_destination_is_there_ends_the_move() -> None:
    bench = asked()

    commands = bench.handle(FINISHED, 2.5)

    assert sorted(kinds(commands), key=str) == sorted(
        [(StopInstance, "i2"), (StopInstance, "i1"), (LaunchInstance, "B")], key=str
    )


def test_a_source_that_finishes_while_resuming_has_the_destination_cleared() -> None:
    bench = resuming()

    commands = bench.handle(FINISHED, 3.1)
    cleared = bench.handle(NOT_MOVED, 3.2)

    assert kinds(commands) == [(AbortMigration, "r1"), (StopInstance, "i1"), (LaunchInstance, "B")]
    assert cleared == []
    assert bench.controller.cluster.instances["i2"].idle_since_s == 3.2


def test_the_slot_of_a_move_is_kept_until_the_destination_is_clean() -> None:
    bench = resuming()
    bench.handle(FINISHED, 3.1)

    waits = bench.arrive(3, "A", 3.15)
    cleared = bench.handle(NOT_MOVED, 3.2)

    assert not any(isinstance(c, StartRequest) for c in waits)
    assert cleared == [StartRequest(8, "r3", "i2", 1)]


# Cases 2 and 3: the source fails.


def test_a_source_lost_while_the_destination_loads_makes_it_the_requests_new_home() -> None:
    bench = asked()

    lost = bench.handle(ServerLost("s0"), 2.5)
    there = bench.handle(loaded("i2"), 3.0)

    assert lost == []
    assert there == [StartRequest(4, "r1", "i2", 2)]


def test_a_source_lost_while_resuming_has_the_destination_cleared_and_starts_again_there() -> None:
    bench = resuming()

    lost = bench.handle(InstanceLost("i1", "crash"), 3.1)
    cleared = bench.handle(NOT_MOVED, 3.2)

    assert kinds(lost) == [(AbortMigration, "r1"), (LaunchInstance, "B")]
    assert cleared == [StartRequest(7, "r1", "i2", 2)]


# Cases 4 and 5: the destination fails.


@pytest.mark.parametrize("event", [LoadFailed("i2", "disk"), InstanceLost("i2", "crash")])
def test_a_destination_that_fails_to_load_leaves_the_inference_where_it_is(event: Event) -> None:
    bench = asked()

    again = bench.handle(event, 2.5)

    assert placed(bench) == {"r1": "i1", "r2": "i5"}
    assert kinds(again) == [(LaunchInstance, "A")]  # of the next destination


@pytest.mark.parametrize("event", [InstanceLost("i2", "crash"), ServerLost("s1")])
def test_a_destination_that_fails_while_resuming_leaves_the_inference_where_it_is(
    event: Event,
) -> None:
    bench = resuming()

    bench.handle(event, 3.1)
    where = placed(bench)["r1"]
    finished = bench.handle(FINISHED, 9.0)

    assert where == "i1"
    assert (LaunchInstance, "B") in kinds(finished)


def test_who_wanted_the_room_asks_again_when_the_move_has_failed() -> None:
    bench = resuming()

    commands = bench.handle(NOT_MOVED, 3.1)

    # The destination is clean and ready: another move to it is as good as the first.
    assert kinds(commands) == [(StartMigration, "r1")]
    assert placed(bench) == {"r1": "i1", "r2": "i4"}


# The newcomer and the clients.


def test_a_newcomer_that_leaves_before_the_move_has_begun_calls_it_off() -> None:
    bench = asked()

    commands = bench.handle(RequestCancelled("r2"), 2.5)

    assert kinds(commands) == [(StopInstance, "i2")]
    assert bench.controller.cluster.instances["i1"].leaving is False


def test_a_newcomer_that_leaves_while_resuming_lets_the_move_go_on() -> None:
    bench = resuming()

    commands = bench.handle(RequestCancelled("r2"), 3.1)
    moved = bench.handle(MOVED, 3.25)

    assert commands == []
    assert kinds(moved) == [(StopInstance, "i1")]
    assert placed(bench) == {"r1": "i2"}


def test_a_client_that_leaves_while_its_request_moves_has_it_stopped_where_it_is() -> None:
    bench = resuming()

    commands = bench.handle(RequestCancelled("r1"), 3.1)
    stopped = bench.handle(InferenceStopped("r1", "i1", 4), 3.2)

    assert commands == [AbortMigration(5, "m1", "r1", "i2"), StopRequest(6, "r1", "i1")]
    assert kinds(stopped) == [(StopInstance, "i1"), (LaunchInstance, "B")]


def test_a_request_that_has_moved_when_it_is_told_to_stop_is_stopped_at_the_destination() -> None:
    bench = resuming()
    bench.handle(RequestCancelled("r1"), 3.1)

    moved = bench.handle(MOVED, 3.2)
    stopped = bench.handle(InferenceStopped("r1", "i2", 4), 3.3)

    assert moved[0] == StopRequest(7, "r1", "i2")
    assert kinds(moved[1:]) == [(StopInstance, "i1"), (LaunchInstance, "B")]
    assert stopped == []
    assert "r1" not in bench.controller.cluster.request_states


def test_an_answer_about_a_move_that_was_let_go_is_ignored() -> None:
    bench = resuming()
    bench.handle(InstanceLost("i2", "crash"), 3.1)

    assert bench.handle(NOT_MOVED, 3.2) == []
    assert bench.handle(MOVED, 3.2) == []


def test_a_move_that_ends_after_its_request_is_a_driver_that_broke_the_contract() -> None:
    bench = resuming()
    bench.handle(FINISHED, 3.1)

    with pytest.raises(ControlError, match="after its end"):
        bench.handle(MOVED, 3.2)


def test_all_requests_of_an_instance_move_together() -> None:
    bench = two_servers(num_slots=2)
    bench.arrive(1, "A", 0.0)
    bench.arrive(2, "A", 0.0)
    bench.handle(loaded("i1"), 0.5)
    bench.arrive(3, "B", 2.0)

    resumed = bench.handle(loaded("i2"), 3.0)
    first = bench.handle(MOVED, 3.25)
    second = bench.handle(MigrationFinished("m2", "r2", "i1", "i2", 8, 0.25, 0.0), 3.5)

    assert kinds(resumed) == [(StartMigration, "r1"), (StartMigration, "r2")]
    assert first == []
    assert kinds(second) == [(StopInstance, "i1"), (LaunchInstance, "B")]


def crowded() -> Bench:
    """B fits nowhere but on s0, where A runs: who wants that room has no other way."""
    small = spec_of("s1", dram_bytes=16, ssd_bytes=16)
    bench = bench_of(
        PolicySettings(residency=LruResidency(caches_dram=False)),
        [A, Checkpoint("B", 32, num_gpus=2)],
        [(spec_of("s0", 2), (in_dram("A", 8), in_dram("B", 32))), (small, (on_ssd("A", 8),))],
    )
    bench.arrive(1, "A", 0.0)
    bench.handle(loaded("i1"), 0.5)
    bench.arrive(2, "B", 2.0)
    bench.handle(loaded("i2"), 3.0)
    return bench


def failed(number: int) -> MigrationFailed:
    return MigrationFailed(f"m{number}", "r1", "i2", "the network is down")


def resumes(commands: list[Command]) -> list[str]:
    return [command.move_id for command in commands if isinstance(command, StartMigration)]


def test_an_inference_that_could_not_be_moved_twice_in_a_row_stays_for_a_while() -> None:
    bench = crowded()

    once = bench.handle(failed(1), 3.0)
    twice = bench.handle(failed(2), 3.25)
    woken_at_s = bench.controller.next_wakeup_s
    again = bench.handle(WakeUp(), 4.25)

    assert (resumes(once), resumes(twice), resumes(again)) == (["m2"], [], ["m3"])
    assert woken_at_s == 4.25


def test_each_further_failure_doubles_the_while_up_to_a_minute() -> None:
    bench = crowded()
    bench.handle(failed(1), 3.0)
    now_s, waits_s = 3.0, []

    for number in range(2, 11):
        bench.handle(failed(number), now_s)
        woken_at_s = bench.controller.next_wakeup_s
        assert woken_at_s is not None
        waits_s.append(woken_at_s - now_s)
        now_s = woken_at_s
        assert resumes(bench.handle(WakeUp(), now_s)) == [f"m{number + 1}"]

    assert waits_s == [1, 2, 4, 8, 16, 32, 64, 64, 64]


def test_destinations_that_do_not_load_count_as_failures() -> None:
    bench = crowded()

    commands = [
        bench.handle(LoadFailed(instance_id, "bad disk"), 3.0) for instance_id in ("i2", "i4")
    ]

    assert [kinds(each) for each in commands] == [[(LaunchInstance, "A")], []]


def test_a_migration_that_succeeds_forgives_those_that_failed() -> None:
    bench = crowded()
    bench.handle(failed(1), 3.0)
    bench.handle(MigrationFinished("m2", "r1", "i1", "i2", 8, 0.25, 0.0), 4.0)
    request_state = bench.controller.cluster.request_states["r1"]

    assert isinstance(request_state, RequestState)
    assert request_state.num_failed_migrations == 0
