"""The seven steps of a migration and the events that can overtake them.

A runs on i1 of s0 as r1; B (r2) needs that GPU. i2 is A's destination on s1. i3 is B's instance,
which is reserved until i1 has left.
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
MIGRATED = MigrationFinished(
    move_id="m1",
    request_id="r1",
    source_id="i1",
    destination_id="i2",
    num_tokens=8,
    resume_s=0.25,
    pause_s=0.0,
)
NOT_MIGRATED = MigrationFailed("m1", "r1", "i2", "some reason")


def loaded(instance_id: str) -> LoadFinished:
    return LoadFinished(
        instance_id=instance_id, source=StorageTier.SSD, num_bytes=8, transfer_s=1.0, startup_s=0.0
    )


def two_servers(num_slots: int = 1) -> Bench:
    return bench_of(
        PolicySettings(residency=LruResidency(caches_dram=False)),
        [A, B],
        [(spec_of("s0"), (in_dram("A", 8), in_dram("B", 32))), (spec_of("s1"), (on_ssd("A", 8),))],
        num_slots,
    )


def planned() -> Bench:
    """Return a bench after step 1: the destination loads (command 3)."""
    bench = two_servers()
    bench.arrive(1, "A", 0.0)
    bench.handle(loaded("i1"), 0.5)
    bench.arrive(2, "B", 2.0)
    return bench


def migrating() -> Bench:
    """Return a bench after step 2: `StartMigration` was issued (command 4)."""
    bench = planned()
    bench.handle(loaded("i2"), 3.0)
    return bench


def kinds(commands: list[Command]) -> list[tuple[type[Command], str]]:
    """Return the type of each command, with its model, instance or request."""
    found: list[tuple[type[Command], str]] = []
    for command in commands:
        match command:
            case LaunchInstance(_, _, model):
                found.append((LaunchInstance, model))
            case StopInstance(_, instance_id):
                found.append((StopInstance, instance_id))
            case _:
                found.append((type(command), getattr(command, "request_id", "")))
    return found


def placed(bench: Bench) -> dict[str, str | None]:
    """Return the instance of each open request."""
    request_states = bench.controller.cluster.request_states
    return {
        request_id: next(
            (i.id for i in bench.controller.cluster.instances.values() if request_id in i.requests),
            None,
        )
        for request_id in request_states
    }


def test_the_seven_steps() -> None:
    bench = planned()

    step_1 = bench.log[-1][2]
    step_2 = bench.handle(loaded("i2"), 3.0)
    step_6 = bench.handle(MIGRATED, 3.25)
    launched = bench.handle(loaded("i3"), 5.25)
    finished = bench.handle(InferenceFinished("r1", "i2", 15, 1.0), 6.0)

    assert kinds(step_1) == [(LaunchInstance, "A")]
    (resume,) = step_2
    assert isinstance(resume, StartMigration)
    assert resume == StartMigration(
        id=4,
        move_id="m1",
        request_id="r1",
        source_id="i1",
        destination_id="i2",
        expected_s=resume.expected_s,
    )
    assert resume.expected_s == pytest.approx(0.05, rel=0.3)
    assert kinds(step_6) == [(StopInstance, "i1"), (LaunchInstance, "B")]
    assert launched == [StartRequest(7, "r2", "i3", 1)]
    assert finished == []
    assert bench.controller.cluster.instances["i2"].idle_since_s == 6.0


def test_an_idle_instance_of_the_model_is_a_destination_without_a_load() -> None:
    bench = two_servers()
    for number in (1, 2):
        bench.arrive(number, "A", 0.0)
        bench.handle(loaded(f"i{number}"), 1.0)
    bench.handle(InferenceFinished("r2", "i2", 15, 1.0), 2.0)

    commands = bench.arrive(3, "B", 3.0)

    assert kinds(commands) == [(StartMigration, "r1")]


def test_a_migrating_request_is_not_chosen_as_a_victim_again() -> None:
    bench = planned()
    bench.handle(ServerJoined(spec_of("s2"), (on_ssd("A", 8),)), 2.0)
    bench.arrive(3, "B", 2.0)

    resumed = bench.handle(loaded("i2"), 3.0)

    assert kinds(resumed) == [(StartMigration, "r1")]


# Case 1: the request finishes at the source.


def test_a_request_that_finishes_before_its_destination_is_ready_ends_the_migration() -> None:
    bench = planned()

    commands = bench.handle(FINISHED, 2.5)

    assert sorted(kinds(commands), key=str) == sorted(
        [(StopInstance, "i2"), (StopInstance, "i1"), (LaunchInstance, "B")], key=str
    )


def test_a_request_that_finishes_during_its_migration_aborts_it() -> None:
    bench = migrating()

    commands = bench.handle(FINISHED, 3.1)
    cleared = bench.handle(NOT_MIGRATED, 3.2)

    assert kinds(commands) == [(AbortMigration, "r1"), (StopInstance, "i1"), (LaunchInstance, "B")]
    assert cleared == []
    assert bench.controller.cluster.instances["i2"].idle_since_s == 3.2


def test_the_slot_of_a_migration_is_reserved_until_it_has_failed() -> None:
    bench = migrating()
    bench.handle(FINISHED, 3.1)

    waits = bench.arrive(3, "A", 3.15)
    cleared = bench.handle(NOT_MIGRATED, 3.2)

    assert not any(isinstance(c, StartRequest) for c in waits)
    assert cleared == [StartRequest(8, "r3", "i2", 1)]


# Cases 2 and 3: the source fails.


def test_a_source_lost_during_the_load_of_the_destination_restarts_the_request_there() -> None:
    bench = planned()

    lost = bench.handle(ServerLost("s0"), 2.5)
    there = bench.handle(loaded("i2"), 3.0)

    assert lost == []
    assert there == [StartRequest(4, "r1", "i2", 2)]


def test_a_source_lost_during_a_migration_aborts_it_and_restarts_the_request_there() -> None:
    bench = migrating()

    lost = bench.handle(InstanceLost("i1", "crash"), 3.1)
    cleared = bench.handle(NOT_MIGRATED, 3.2)

    assert kinds(lost) == [(AbortMigration, "r1"), (LaunchInstance, "B")]
    assert cleared == [StartRequest(7, "r1", "i2", 2)]


# Cases 4 and 5: the destination fails.


@pytest.mark.parametrize("event", [LoadFailed("i2", "disk"), InstanceLost("i2", "crash")])
def test_a_destination_that_fails_to_load_leaves_the_request_at_its_source(event: Event) -> None:
    bench = planned()

    again = bench.handle(event, 2.5)

    assert placed(bench) == {"r1": "i1", "r2": "i5"}
    assert kinds(again) == [(LaunchInstance, "A")]  # of the next destination


@pytest.mark.parametrize("event", [InstanceLost("i2", "crash"), ServerLost("s1")])
def test_a_destination_lost_during_a_migration_leaves_the_request_at_its_source(
    event: Event,
) -> None:
    bench = migrating()

    bench.handle(event, 3.1)
    where = placed(bench)["r1"]
    finished = bench.handle(FINISHED, 9.0)

    assert where == "i1"
    assert (LaunchInstance, "B") in kinds(finished)


def test_after_a_failed_migration_the_request_that_needs_the_gpus_is_decided_again() -> None:
    bench = migrating()

    commands = bench.handle(NOT_MIGRATED, 3.1)

    # The destination is ready again, so another migration to it is the best decision.
    assert kinds(commands) == [(StartMigration, "r1")]
    assert placed(bench) == {"r1": "i1", "r2": "i4"}


# Cancellations.


def test_cancelling_the_request_that_needs_the_gpus_cancels_a_planned_migration() -> None:
    bench = planned()

    commands = bench.handle(RequestCancelled("r2"), 2.5)

    assert kinds(commands) == [(StopInstance, "i2")]
    assert bench.controller.cluster.instances["i1"].leaving is False


def test_cancelling_the_request_that_needs_the_gpus_keeps_a_started_migration() -> None:
    bench = migrating()

    commands = bench.handle(RequestCancelled("r2"), 3.1)
    moved = bench.handle(MIGRATED, 3.25)

    assert commands == []
    assert kinds(moved) == [(StopInstance, "i1")]
    assert placed(bench) == {"r1": "i2"}


def test_a_cancelled_request_is_stopped_at_its_source_and_its_migration_aborted() -> None:
    bench = migrating()

    commands = bench.handle(RequestCancelled("r1"), 3.1)
    stopped = bench.handle(InferenceStopped("r1", "i1", 4), 3.2)

    assert commands == [AbortMigration(5, "m1", "r1", "i2"), StopRequest(6, "r1", "i1")]
    assert kinds(stopped) == [(StopInstance, "i1"), (LaunchInstance, "B")]


def test_a_stopped_request_that_has_migrated_is_stopped_at_its_destination() -> None:
    bench = migrating()
    bench.handle(RequestCancelled("r1"), 3.1)

    moved = bench.handle(MIGRATED, 3.2)
    stopped = bench.handle(InferenceStopped("r1", "i2", 4), 3.3)

    assert moved[0] == StopRequest(7, "r1", "i2")
    assert kinds(moved[1:]) == [(StopInstance, "i1"), (LaunchInstance, "B")]
    assert stopped == []
    assert "r1" not in bench.controller.cluster.request_states


def test_an_answer_about_an_ended_migration_is_ignored() -> None:
    bench = migrating()
    bench.handle(InstanceLost("i2", "crash"), 3.1)

    assert bench.handle(NOT_MIGRATED, 3.2) == []
    assert bench.handle(MIGRATED, 3.2) == []


def test_a_migration_that_finishes_after_its_request_violates_the_contract() -> None:
    bench = migrating()
    bench.handle(FINISHED, 3.1)

    with pytest.raises(ControlError, match="after its end"):
        bench.handle(MIGRATED, 3.2)


def test_all_requests_of_an_instance_migrate_together() -> None:
    bench = two_servers(num_slots=2)
    bench.arrive(1, "A", 0.0)
    bench.arrive(2, "A", 0.0)
    bench.handle(loaded("i1"), 0.5)
    bench.arrive(3, "B", 2.0)

    resumed = bench.handle(loaded("i2"), 3.0)
    first = bench.handle(MIGRATED, 3.25)
    second = bench.handle(
        MigrationFinished(
            move_id="m2",
            request_id="r2",
            source_id="i1",
            destination_id="i2",
            num_tokens=8,
            resume_s=0.25,
            pause_s=0.0,
        ),
        3.5,
    )

    assert kinds(resumed) == [(StartMigration, "r1"), (StartMigration, "r2")]
    assert first == []
    assert kinds(second) == [(StopInstance, "i1"), (LaunchInstance, "B")]


def crowded() -> Bench:
    """Return a bench in which B fits only on s0, where A runs."""
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


def started_migrations(commands: list[Command]) -> list[str]:
    return [command.move_id for command in commands if isinstance(command, StartMigration)]


def test_two_failed_migrations_in_a_row_start_a_back_off() -> None:
    bench = crowded()

    once = bench.handle(failed(1), 3.0)
    twice = bench.handle(failed(2), 3.25)
    woken_at_s = bench.controller.next_wakeup_s
    again = bench.handle(WakeUp(), 4.25)

    assert (started_migrations(once), started_migrations(twice), started_migrations(again)) == (
        ["m2"],
        [],
        ["m3"],
    )
    assert woken_at_s == 4.25


def test_each_further_failure_doubles_the_back_off_up_to_a_minute() -> None:
    bench = crowded()
    bench.handle(failed(1), 3.0)
    now_s, waits_s = 3.0, []

    for number in range(2, 11):
        bench.handle(failed(number), now_s)
        woken_at_s = bench.controller.next_wakeup_s
        assert woken_at_s is not None
        waits_s.append(woken_at_s - now_s)
        now_s = woken_at_s
        assert started_migrations(bench.handle(WakeUp(), now_s)) == [f"m{number + 1}"]

    assert waits_s == [1, 2, 4, 8, 16, 32, 64, 64, 64]


def test_destinations_that_do_not_load_count_as_failures() -> None:
    bench = crowded()

    commands = [
        bench.handle(LoadFailed(instance_id, "bad disk"), 3.0) for instance_id in ("i2", "i4")
    ]

    assert [kinds(each) for each in commands] == [[(LaunchInstance, "A")], []]


def test_a_finished_migration_resets_the_count_of_failures() -> None:
    bench = crowded()
    bench.handle(failed(1), 3.0)
    bench.handle(
        MigrationFinished(
            move_id="m2",
            request_id="r1",
            source_id="i1",
            destination_id="i2",
            num_tokens=8,
            resume_s=0.25,
            pause_s=0.0,
        ),
        4.0,
    )
    request_state = bench.controller.cluster.request_states["r1"]

    assert isinstance(request_state, RequestState)
    assert request_state.num_failed_migrations == 0
