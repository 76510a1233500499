"""Split loads in the simulator: parts over several networks, a pipeline, and the rest that joins.

A network carries 4 bytes/s; A has 32 bytes. Tokens take 0.25 s, a first one 0.5 s.

Seeded bugs that these tests have caught: a rest that does not give way; a pipeline as fast as one
GPU.
"""

import pytest

from sllmcore.build import PolicySettings
from sllmcore.events import Event, InferenceFinished, InstanceLost, LoadFailed, LoadFinished
from sllmcore.migration_predictor import MigrationProfile
from sllmcore.scheduling.hydraserve import SplitSettings
from sllmcore.types import Checkpoint, StorageTier
from sllmcore.workload import WorkloadRequest
from sllmsim.cluster import SimCluster
from sllmsim.faults import Fault, ServerCrash, ServerLeave
from sllmsim.setup import SimModel, SimServerSetup, SimSetup
from sllmsim.splitting import HOP_S, PipelineTiming
from tests.builders import TIMING, hardware_of, job_of, sim_of

A, B = Checkpoint("A", 32), Checkpoint("B", 32)
SPLIT_IN_TWO = SplitSettings(max_parts=2, ttft_slo_s=5.0, tpot_slo_s=10.0, margin_s=0.0)
POLICY = PolicySettings(
    name="hydraserve", migration=MigrationProfile(0.0, 0.0, 0.25), splitting=SPLIT_IN_TWO
)


class Told:
    """A sink: what the controller was told, and when."""

    def __init__(self) -> None:
        self.events: list[tuple[float, Event]] = []

    def __call__(self, now_s: float, event: Event, commands: object) -> None:
        self.events.append((now_s, event))

    def times(self, kind: type[Event]) -> list[float]:
        return [now_s for now_s, event in self.events if isinstance(event, kind)]


def _run(
    *jobs: WorkloadRequest, faults: tuple[Fault, ...] = (), num_servers: int = 2, num_gpus: int = 2
) -> tuple[SimCluster, Told]:
    told = Told()
    servers = [SimServerSetup(f"s{i}", hardware_of(num_gpus)) for i in range(num_servers)]
    models = (SimModel(A, TIMING), SimModel(B, TIMING))
    cluster = sim_of(POLICY, SimSetup(tuple(servers), models, faults=faults), jobs, [told])
    cluster.run()
    return cluster, told


def test_two_networks_take_half_the_time_and_the_rest_follows() -> None:
    cluster, told = _run(job_of(1, "A", 0.0))

    (finished,) = (event for _, event in told.events if isinstance(event, LoadFinished))
    assert finished == LoadFinished("i1", StorageTier.REMOTE, 16, 4.0, 0.0)
    assert told.times(LoadFinished) == [4.0]
    moved = {link.name: link.bytes_moved for link in cluster.all_links()}
    assert moved["s0/nic"] == 32.0 and moved["s1/nic"] == 16.0
    assert moved["s0/pcie0"] == 32.0


def test_a_pipeline_is_as_slow_as_it_is_said_to_be_until_the_rest_has_joined() -> None:
    _, told = _run(job_of(1, "A", 0.0, output_tokens=15))

    # 1.5 times as long until 8 s: the prompt until 4.75, then iterations of 0.376 s, the ninth of
    # which ends after 8 s; the last 5 tokens are as fast as ever.
    slow_s = 1.5 * 0.5 + HOP_S + 9 * (1.5 * 0.25 + HOP_S)
    assert told.times(InferenceFinished) == [pytest.approx(4.0 + slow_s + 5 * 0.25)]


def test_what_joins_gives_way_to_a_load() -> None:
    # From 5 s on, a load of B over both networks; A's rest had a second, and goes on from 9 s.
    cluster, told = _run(job_of(1, "A", 0.0, output_tokens=63), job_of(2, "B", 5.0, 1))

    assert told.times(LoadFinished) == [4.0, 9.0]
    moved = {link.name: link.bytes_moved for link in cluster.all_links()}
    assert sum(moved[f"s{i}/nic"] for i in range(2)) == 32 + 16 + 32 + 16


def test_an_instance_that_goes_stops_what_joins() -> None:
    cluster, _ = _run(job_of(1, "A", 0.0, 1, cancel_at_s=2.0))

    moved = {link.name: link.bytes_moved for link in cluster.all_links()}
    assert moved["s0/nic"] == moved["s1/nic"] == 8.0


def test_a_helper_that_dies_takes_a_load_with_it() -> None:
    _, told = _run(job_of(1, "A", 0.0), faults=(ServerCrash(2.0, "s1"),))

    assert told.times(LoadFailed) == [2.0]
    assert told.times(LoadFinished) == [10.0]  # alone, from 2 s on


def test_a_helper_that_leaves_takes_a_pipeline_with_it() -> None:
    _, told = _run(job_of(1, "A", 0.0), faults=(ServerLeave(5.0, "s1"),))

    assert told.times(InstanceLost) == [5.0]
    assert told.times(InferenceFinished)  # it ran again


def test_a_helper_that_dies_once_all_is_whole_takes_nothing_with_it() -> None:
    _, told = _run(job_of(1, "A", 0.0, 63), faults=(ServerCrash(9.0, "s1"),))

    assert told.times(InstanceLost) == told.times(LoadFailed) == []
    assert len(told.times(InferenceFinished)) == 1


def test_a_pipeline_of_one_part_is_no_slower() -> None:
    timing = PipelineTiming(TIMING, 1)

    assert (timing.fixed_s, timing.prefill_s(7)) == (TIMING.fixed_s, TIMING.prefill_s(7))
    assert timing.prefill_s(0) == 0.0
