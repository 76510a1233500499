"""Faults and their plans, on clusters small enough to follow by hand."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from sllmcore.build import PolicySettings
from sllmcore.errors import UsageError
from sllmcore.events import (
    Event,
    InferenceFinished,
    MigrationFailed,
    MigrationFinished,
    ServerJoined,
    ServerLost,
)
from sllmcore.types import Checkpoint
from sllmcore.workload import WorkloadRequest
from sllmsim.faults import (
    ControllerCrash,
    EngineCrash,
    Fault,
    FaultRates,
    LinkLoss,
    LoadFailure,
    ServerCrash,
    ServerLeave,
    SlowDisk,
    draw_faults,
)
from sllmsim.setup import MigrationSettings, SimServerSetup
from tests.builders import hardware_of, in_dram, job_of, on_ssd, setup_of
from tests.laws.cases import Case
from tests.laws.runs import Run, play

A = Checkpoint("A", 16)  # a second from DRAM, two from SSD, four from remote storage
B = Checkpoint("B", 16)
REPLAYS = MigrationSettings()


def run_of(
    servers: Sequence[SimServerSetup],
    jobs: Sequence[WorkloadRequest],
    faults: Sequence[Fault],
    migration: MigrationSettings = REPLAYS,
    recovers_tokens: bool = True,
    num_slots: int = 1,
) -> Run:
    setup = setup_of(servers, (A, B), num_slots)
    models = tuple(replace(model, kv_bytes_per_token=1) for model in setup.models)
    setup = replace(setup, models=models, migration=migration)
    setup = replace(setup, faults=tuple(faults), recovers_tokens=recovers_tokens)
    return play(Case(PolicySettings(name="serverlessllm"), setup, tuple(jobs)))


def one_server(num_gpus: int = 1) -> list[SimServerSetup]:
    return [SimServerSetup("s0", hardware_of(num_gpus), (in_dram("A", 16), in_dram("B", 16)))]


def two_servers() -> list[SimServerSetup]:
    return [
        SimServerSetup("s0", hardware_of(), (in_dram("A", 16), in_dram("B", 16))),
        SimServerSetup("s1", hardware_of(), (on_ssd("A", 16),)),
    ]


def events_of(run: Run, kind: type[Event]) -> list[tuple[float, Event]]:
    return [(now_s, event) for now_s, event, _ in run.log.entries if isinstance(event, kind)]


def finished_at_s(run: Run) -> dict[str, float]:
    return {
        event.request_id: now_s
        for now_s, event, _ in run.log.entries
        if isinstance(event, InferenceFinished)
    }


def test_a_plan_is_the_same_for_a_seed_and_in_order_of_time() -> None:
    rates = FaultRates(server_crash_every_s=50.0, engine_crash_every_s=30.0)

    plan = draw_faults(rates, ["s0", "s1"], 1000.0, seed=3)

    assert plan == draw_faults(rates, ["s0", "s1"], 1000.0, seed=3)
    assert plan != draw_faults(rates, ["s0", "s1"], 1000.0, seed=4)
    assert [fault.at_s for fault in plan] == sorted(fault.at_s for fault in plan)


def test_faults_come_at_their_rates() -> None:
    rates = FaultRates(engine_crash_every_s=10.0, controller_crash_every_s=40.0)

    plan = draw_faults(rates, ["s0", "s1"], 40_000.0, seed=0)

    # Poisson with means 8,000 and 1,000: four standard deviations either side
    assert abs(sum(isinstance(f, EngineCrash) for f in plan) - 8000) < 4 * 8000**0.5
    assert abs(sum(isinstance(f, ControllerCrash) for f in plan) - 1000) < 4 * 1000**0.5


def test_one_kind_of_fault_does_not_change_when_another_is_switched_on() -> None:
    alone = draw_faults(FaultRates(engine_crash_every_s=10.0), ["s0"], 500.0, seed=0)

    both = draw_faults(
        FaultRates(engine_crash_every_s=10.0, load_failure_every_s=5.0), ["s0"], 500.0, seed=0
    )

    assert tuple(f for f in both if isinstance(f, EngineCrash)) == alone


@pytest.mark.parametrize("every_s", [0.0, -1.0])
def test_a_rate_that_is_not_positive_is_refused(every_s: float) -> None:
    with pytest.raises(UsageError, match="engine_crash_every_s"):
        FaultRates(engine_crash_every_s=every_s)


def test_events_while_the_controller_is_down_are_handled_in_order() -> None:
    faults: list[Fault] = [ControllerCrash(1.5, 4.0), ServerCrash(2.0, "s0", 1.0)]

    run = run_of(one_server(), [job_of(0, "A", 0.0)], faults)

    told_late = [type(event) for now_s, event, _ in run.log.entries if now_s == 5.5]
    assert told_late == [ServerLost, ServerJoined]
    assert finished_at_s(run).keys() == {"r0"}


def test_a_request_that_finished_while_the_controller_was_down_stops_no_other() -> None:
    # r1 has its tokens at 3.25 s and is cancelled at 3.0 s. The controller handles the cancel at
    # 3.5 s, before the end in the queue: its stop finds nothing to stop.
    jobs = [job_of(0, "A", 0.0, 40), job_of(1, "A", 1.0, 2, cancel_at_s=1.5)]

    run = run_of(one_server(), jobs, [ControllerCrash(1.25, 4.0)], num_slots=2)

    assert finished_at_s(run).keys() >= {"r0"}


def test_a_migration_from_a_source_lost_while_the_controller_was_down_is_answered() -> None:
    # B arrives at 2 s and needs the server that has it in DRAM: A migrates to s1, loaded there at
    # 4 s. The source crashes just before. The controller handles both at 5 s, first the load.
    jobs = [job_of(0, "A", 0.0, 60), job_of(1, "B", 2.0, 60)]
    faults: list[Fault] = [ControllerCrash(3.5, 1.5), EngineCrash(4.5, "s0")]

    run = run_of(two_servers(), jobs, faults)

    assert [event for _, event in events_of(run, MigrationFailed)]
    assert finished_at_s(run).keys() == {"r0", "r1"}


def test_a_load_stopped_after_it_finished_unacknowledged_leaves_no_bytes() -> None:
    # A is loaded at 2 s and its request cancelled at 1.5 s. The controller handles both at 3 s, in
    # order of time. B then needs the DRAM that was promised to A.
    servers = [SimServerSetup("s0", hardware_of(1, 16), (on_ssd("A", 16), on_ssd("B", 16)))]
    jobs = [job_of(0, "A", 0.0, cancel_at_s=1.5), job_of(1, "B", 4.0)]

    run = run_of(servers, jobs, [ControllerCrash(1.0, 2.0)])

    assert finished_at_s(run) == {"r1": 10.0}


def test_a_load_that_another_failure_has_stopped_does_not_fail_again() -> None:
    servers = [
        SimServerSetup("s0", hardware_of(2), (in_dram("B", 16), in_dram("A", 16))),
        SimServerSetup("s1", hardware_of(2), (on_ssd("A", 16),)),
    ]
    wide = Checkpoint("W", 32, 2)
    servers[0] = replace(servers[0], resident=(*servers[0].resident, in_dram("W", 32)))
    setup = setup_of(servers, (A, B, wide))
    jobs = (job_of(0, "A", 0.0, 90), job_of(1, "B", 0.0, 90), job_of(2, "W", 3.0, 9))
    setup = replace(setup, faults=(LoadFailure(3.5, "s1"),))

    run = play(Case(PolicySettings(), setup, jobs))

    assert finished_at_s(run).keys() == {"r0", "r1", "r2"}


def test_a_draining_server_leaves_when_its_last_engine_crashes() -> None:
    faults: list[Fault] = [ServerLeave(2.0, "s0"), EngineCrash(3.0, "s0")]

    run = run_of(two_servers(), [job_of(0, "A", 0.0, 60)], faults)

    assert events_of(run, ServerLost) == [(3.0, ServerLost("s0"))]


def test_a_draining_server_stays_until_its_requests_have_finished() -> None:
    run = run_of(one_server(), [job_of(0, "A", 0.0)], [ServerLeave(2.0, "s0")])

    assert finished_at_s(run) == {"r0": 5.0}  # a second of loading, four of inference
    assert events_of(run, ServerLost) == [(5.0, ServerLost("s0"))]


def test_a_crash_after_the_last_token_loses_no_token() -> None:
    # The engine crashes at 5.5 s, at the very end of r0's last token and in the middle of r1.
    jobs = [job_of(0, "A", 0.0, 15), job_of(1, "A", 1.0, 30)]

    run = run_of(one_server(), jobs, [EngineCrash(5.5, "s0")], num_slots=2)

    done = [event for _, event in events_of(run, InferenceFinished)]
    assert {e.request_id: e.output_tokens for e in done if isinstance(e, InferenceFinished)} == {
        "r0": 15,
        "r1": 30,
    }


@pytest.mark.parametrize(("recovers", "ends_at_s"), [(True, 6.25), (False, 8.0)])
def test_a_crashed_inference_goes_on_from_its_tokens_if_the_gateway_has_them(
    recovers: bool, ends_at_s: float
) -> None:
    # Loaded at 1 s, 7 tokens by 3 s, loaded again at 4 s; half a second for the prefill and its
    # token, and the rest at four a second: 7 of them, or 14.
    run = run_of(
        one_server(), [job_of(0, "A", 0.0)], [EngineCrash(3.0, "s0")], recovers_tokens=recovers
    )

    assert finished_at_s(run) == {"r0": ends_at_s}


def test_a_slow_disk_stretches_the_load_by_its_factor() -> None:
    servers = [SimServerSetup("s0", hardware_of(), (on_ssd("A", 16),))]

    run = run_of(servers, [job_of(0, "A", 0.0)], [SlowDisk(1.0, "s0", 0.25, 100.0)])

    # 8 bytes in the first second, 8 more at 2 bytes/s: loaded at 5 s
    assert finished_at_s(run) == {"r0": 9.0}


def test_a_link_loss_delays_a_download_by_its_length() -> None:
    servers = [SimServerSetup("s0", hardware_of())]

    run = run_of(servers, [job_of(0, "A", 0.0)], [LinkLoss(1.0, "s0", 3.0)])

    assert finished_at_s(run) == {"r0": 4.0 + 3.0 + 4.0}


def test_a_copied_cache_goes_out_of_one_server_and_into_the_other() -> None:
    """B takes the GPU of A. The 8 tokens of A, 1 byte each, are copied to s1, and later ones."""
    copies = MigrationSettings("copy")
    run = run_of(two_servers(), [job_of(0, "A", 0.0, 63), job_of(1, "B", 2.0)], [], copies)

    assert len(events_of(run, MigrationFinished)) == 1
    moved = {link.name: link.bytes_moved for link in run.cluster.all_links()}
    assert moved["s0/nic_out"] == moved["s1/nic"] > 8
    assert moved["s1/nic_out"] == moved["s0/nic"] == 0


def test_a_link_that_is_lost_stops_a_copy() -> None:
    """The cache needs 3 s over 4 bytes/s; the loss at 5 s ends the migration."""
    jobs = [job_of(0, "A", 0.0, 63), job_of(1, "B", 2.0)]
    run = run_of(two_servers(), jobs, [LinkLoss(5.0, "s0", 3.0)], MigrationSettings("copy"))

    failed = events_of(run, MigrationFailed)
    assert failed[0][0] == 5.0
    assert set(finished_at_s(run)) == {"r0", "r1"}
    assert all(not link.transfers for link in run.cluster.all_links())


def test_the_last_of_two_overlapping_faults_restores_the_link() -> None:
    servers = [SimServerSetup("s0", hardware_of())]
    faults = [LinkLoss(1.0, "s0", 3.0), LinkLoss(2.0, "s0", 4.0)]

    run = run_of(servers, [job_of(0, "A", 0.0)], faults)

    assert finished_at_s(run) == {"r0": 4.0 + 5.0 + 4.0}


def test_a_server_that_returns_has_what_its_ssd_held_and_nothing_in_dram() -> None:
    servers = [SimServerSetup("s0", hardware_of(), (in_dram("A", 16), on_ssd("A", 16)))]

    run = run_of(servers, [job_of(0, "A", 0.0)], [ServerCrash(3.0, "s0", 1.0)])

    rejoined = events_of(run, ServerJoined)[-1][1]
    assert isinstance(rejoined, ServerJoined)
    assert rejoined.resident == (on_ssd("A", 16),)


def test_no_fault_is_applied_after_the_last_request_has_ended() -> None:
    run = run_of(one_server(), [job_of(0, "A", 0.0)], [ServerCrash(100.0, "s0")])

    assert events_of(run, ServerLost) == []
