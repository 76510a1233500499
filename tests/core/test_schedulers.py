"""Decisions of each scheduler on the two servers of ServerlessLLM's figure 3, and corner cases.

In the figure, model A runs on s0, which holds B in DRAM; s1 is free and has A and B on SSD. A
request for B arrives. Availability takes the free server and loads slowly; locality waits for s0;
preemption stops A; live migration migrates A to s1 first.
"""

import pytest

from sllmcore.build import POLICIES, PolicySettings, check_policy
from sllmcore.commands import (
    Command,
    LaunchInstance,
    StartMigration,
    StartRequest,
    StopInstance,
    StopRequest,
)
from sllmcore.errors import UsageError
from sllmcore.events import (
    InferenceFinished,
    InferenceStopped,
    LoadFinished,
    MigrationFinished,
    ServerJoined,
)
from sllmcore.residency import LruResidency
from sllmcore.types import Checkpoint, LoadEstimate, StorageTier
from tests.builders import Bench, bench_of, in_dram, on_ssd, spec_of

REMOTE, SSD, DRAM = StorageTier.REMOTE, StorageTier.SSD, StorageTier.DRAM
A, B = Checkpoint("A", 8), Checkpoint("B", 32)
KEEPS_NO_DRAM = LruResidency(caches_dram=False)
B_FROM_DRAM = LoadEstimate(DRAM, 0.0, 2.0, 0.0)
B_FROM_SSD = LoadEstimate(SSD, 0.0, 4.0, 0.0)
A_FROM_SSD = LoadEstimate(SSD, 0.0, 1.0, 0.0)


def figure_3(policy: str) -> tuple[Bench, list[Command]]:
    """Return the cluster of the figure at 2 s, and the commands for the request for B."""
    bench = bench_of(
        PolicySettings(name=policy, residency=KEEPS_NO_DRAM),
        [A, B],
        [(spec_of("s0"), (in_dram("A", 8), in_dram("B", 32)))],
    )
    bench.arrive(1, "A", 0.0)
    bench.handle(
        LoadFinished(instance_id="i1", source=DRAM, num_bytes=8, transfer_s=0.5, startup_s=0.0), 1.0
    )
    bench.handle(ServerJoined(spec_of("s1"), (on_ssd("A", 8), on_ssd("B", 32))), 1.5)
    return bench, bench.arrive(2, "B", 2.0)


@pytest.mark.parametrize("policy", ["availability", "serverless"])
def test_availability_loads_slowly_on_the_free_server(policy: str) -> None:
    _, commands = figure_3(policy)

    assert commands == [
        LaunchInstance(
            id=3,
            instance_id="i2",
            model="B",
            server_id="s1",
            gpu_indices=(0,),
            estimate=B_FROM_SSD,
            cache_in=(),
            after=None,
        )
    ]


def test_locality_waits_for_the_server_that_holds_the_model() -> None:
    bench, commands = figure_3("locality")

    finished = bench.handle(InferenceFinished("r1", "i1", 15, 1.5), 5.0)

    assert commands == []
    assert finished == [
        StopInstance(3, "i1"),
        LaunchInstance(
            id=4,
            instance_id="i2",
            model="B",
            server_id="s0",
            gpu_indices=(0,),
            estimate=B_FROM_DRAM,
            cache_in=(),
            after=None,
        ),
    ]


def test_preemption_stops_the_running_request_and_restarts_it_elsewhere() -> None:
    bench, commands = figure_3("shepherd")

    stopped = bench.handle(InferenceStopped("r1", "i1", 4), 2.25)

    assert commands == [StopRequest(3, "r1", "i1")]
    assert stopped == [
        StopInstance(4, "i1"),
        LaunchInstance(
            id=5,
            instance_id="i2",
            model="B",
            server_id="s0",
            gpu_indices=(0,),
            estimate=B_FROM_DRAM,
            cache_in=(),
            after=None,
        ),
        LaunchInstance(
            id=6,
            instance_id="i3",
            model="A",
            server_id="s1",
            gpu_indices=(0,),
            estimate=A_FROM_SSD,
            cache_in=(),
            after=None,
        ),
    ]


def test_live_migration_migrates_first_and_then_loads() -> None:
    # A loads on s1 in 1 s and migrates in 0.05 s, then B loads in 2 s. From the SSD of s1, B would
    # need 4 s.
    bench, commands = figure_3("serverlessllm")

    resumed = bench.handle(
        LoadFinished(instance_id="i2", source=SSD, num_bytes=8, transfer_s=1.0, startup_s=0.0), 3.0
    )
    moved = bench.handle(
        MigrationFinished(
            move_id="m1",
            request_id="r1",
            source_id="i1",
            destination_id="i2",
            num_tokens=8,
            resume_s=0.25,
            pause_s=0.0,
        ),
        3.25,
    )

    assert commands == [
        LaunchInstance(
            id=3,
            instance_id="i2",
            model="A",
            server_id="s1",
            gpu_indices=(0,),
            estimate=A_FROM_SSD,
            cache_in=(),
            after=None,
        )
    ]
    assert [type(c) for c in resumed] == [StartMigration]
    assert moved == [
        StopInstance(5, "i1"),
        LaunchInstance(
            id=6,
            instance_id="i3",
            model="B",
            server_id="s0",
            gpu_indices=(0,),
            estimate=B_FROM_DRAM,
            cache_in=(),
            after=None,
        ),
    ]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_ready_instance_is_preferred_to_a_load(policy: str) -> None:
    bench = bench_of(PolicySettings(name=policy), [A], [(spec_of("s0", 2), (in_dram("A", 8),))])
    bench.arrive(1, "A", 0.0)
    bench.handle(
        LoadFinished(instance_id="i1", source=DRAM, num_bytes=8, transfer_s=0.5, startup_s=0.0), 1.0
    )
    bench.handle(InferenceFinished("r1", "i1", 15, 1.5), 5.0)

    assert bench.arrive(2, "A", 6.0) == [StartRequest(3, "r2", "i1", 1)]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_model_that_fits_on_no_server_waits(policy: str) -> None:
    huge = Checkpoint("H", 33)  # a GPU has 32 bytes
    bench = bench_of(PolicySettings(name=policy), [huge], [(spec_of("s0", 2), ())])

    assert bench.arrive(1, "H", 0.0) == []
    assert bench.controller.num_waiting == 1


@pytest.mark.parametrize("policy", POLICIES)
def test_idle_instances_are_reclaimed_longest_idle_first(policy: str) -> None:
    bench = bench_of(PolicySettings(name=policy), [A, B], [(spec_of("s0", 2), ())])
    for number in (1, 2):
        bench.arrive(number, "A", 0.0)
    for number in (1, 2):
        bench.handle(
            LoadFinished(
                instance_id=f"i{number}", source=REMOTE, num_bytes=8, transfer_s=2.0, startup_s=0.0
            ),
            4.0,
        )
    bench.handle(InferenceFinished("r2", "i2", 15, 1.5), 5.0)
    bench.handle(InferenceFinished("r1", "i1", 15, 1.5), 6.0)

    commands = bench.arrive(3, "B", 7.0)

    assert commands[0] == StopInstance(5, "i2")
    assert isinstance(commands[-1], LaunchInstance) and commands[-1].gpu_indices == (1,)


@pytest.mark.parametrize("policy", ["serverlessllm", "shepherd"])
def test_the_load_queue_counts_in_the_choice_between_two_servers(policy: str) -> None:
    # Both hold B in DRAM, but s0 is loading A from there for another second.
    both = (in_dram("A", 8), in_dram("B", 32))
    bench = bench_of(PolicySettings(name=policy), [A, B], [(spec_of(s, 2), both) for s in "st"])
    bench.arrive(1, "A", 0.0)

    commands = bench.arrive(2, "B", 0.0)

    assert commands == [
        LaunchInstance(
            id=2,
            instance_id="i2",
            model="B",
            server_id="t",
            gpu_indices=(0,),
            estimate=B_FROM_DRAM,
            cache_in=(),
            after=None,
        )
    ]


def test_a_request_is_not_preempted_more_often_than_the_limit() -> None:
    once = PolicySettings(name="shepherd", max_preemptions=1, residency=KEEPS_NO_DRAM)
    bench = bench_of(
        once,
        [A, B],
        [(spec_of("s0"), (in_dram("A", 8), in_dram("B", 32))), (spec_of("s1"), (on_ssd("A", 8),))],
    )
    bench.arrive(1, "A", 0.0)
    bench.handle(
        LoadFinished(instance_id="i1", source=DRAM, num_bytes=8, transfer_s=0.5, startup_s=0.0), 1.0
    )
    bench.arrive(2, "B", 2.0)
    bench.handle(InferenceStopped("r1", "i1", 4), 2.25)
    bench.handle(
        LoadFinished(instance_id="i2", source=DRAM, num_bytes=32, transfer_s=2.0, startup_s=0.0),
        4.25,
    )
    bench.handle(
        LoadFinished(instance_id="i3", source=SSD, num_bytes=8, transfer_s=1.0, startup_s=0.0), 4.25
    )
    bench.handle(InferenceFinished("r2", "i2", 15, 1.5), 5.0)

    commands = bench.arrive(3, "A", 5.0)

    assert not any(isinstance(c, StopRequest) for c in commands)


def test_an_unknown_policy_is_refused_with_a_hint() -> None:
    with pytest.raises(UsageError, match="did you mean serverlessllm"):
        check_policy("serverlesslm")


def test_an_unknown_policy_is_refused_with_a_list() -> None:
    with pytest.raises(UsageError, match="known are serverlessllm, shepherd"):
        check_policy("zzz")
