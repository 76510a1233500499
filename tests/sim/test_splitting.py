"""Split loads in the simulator: parts over several networks, a pipeline, and the rest of the bytes.

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


class EventLog:
    """A sink of the controller's events and their instants."""

    def __init__(self) -> None:
        self.events: list[tuple[float, Event]] = []

    def __call__(self, now_s: float, event: Event, commands: object) -> None:
        self.events.append((now_s, event))

    def times(self, kind: type[Event]) -> list[float]:
        return [now_s for now_s, event in self.events if isinstance(event, kind)]


def _run(
    *jobs: WorkloadRequest, faults: tuple[Fault, ...] = (), num_servers: int = 2, num_gpus: int = 2
) -> tuple[SimCluster, EventLog]:
    log = EventLog()
    servers = [SimServerSetup(f"s{i}", hardware_of(num_gpus)) for i in range(num_servers)]
    models = (SimModel(A, TIMING), SimModel(B, TIMING))
    cluster = sim_of(POLICY, SimSetup(tuple(servers), models, faults=faults), jobs, [log])
    cluster.run()
    return cluster, log


def test_two_networks_take_half_the_time_and_the_rest_follows() -> None:
    cluster, log = _run(job_of(1, "A", 0.0))

    (finished,) = (event for _, event in log.events if isinstance(event, LoadFinished))
    assert finished == LoadFinished(
        instance_id="i1", source=StorageTier.REMOTE, num_bytes=16, transfer_s=4.0, startup_s=0.0
    )
    assert log.times(LoadFinished) == [4.0]
    moved = {link.name: link.bytes_moved for link in cluster.all_links()}
    assert moved["s0/nic"] == 32.0 and moved["s1/nic"] == 16.0
    assert moved["s0/pcie0"] == 32.0


def test_a_pipeline_has_its_timing_until_the_rest_has_joined() -> None:
    _, log = _run(job_of(1, "A", 0.0, output_tokens=15))

    # 1.5 times as long until 8 s: the prompt until 4.75, then iterations of 0.376 s, the ninth of
    # which ends after 8 s; the last 5 tokens take their usual time.
    slow_s = 1.5 * 0.5 + HOP_S + 9 * (1.5 * 0.25 + HOP_S)
    assert log.times(InferenceFinished) == [pytest.approx(4.0 + slow_s + 5 * 0.25)]


def test_the_rest_gives_way_to_a_load() -> None:
    # From 5 s on, a load of B over both networks; A's rest had a second, and continues at 9 s.
    cluster, log = _run(job_of(1, "A", 0.0, output_tokens=63), job_of(2, "B", 5.0, 1))

    assert log.times(LoadFinished) == [4.0, 9.0]
    moved = {link.name: link.bytes_moved for link in cluster.all_links()}
    assert sum(moved[f"s{i}/nic"] for i in range(2)) == 32 + 16 + 32 + 16


def test_stopping_an_instance_stops_its_rest() -> None:
    cluster, _ = _run(job_of(1, "A", 0.0, 1, cancel_at_s=2.0))

    moved = {link.name: link.bytes_moved for link in cluster.all_links()}
    assert moved["s0/nic"] == moved["s1/nic"] == 8.0


def test_a_crash_of_a_helper_fails_the_load() -> None:
    _, log = _run(job_of(1, "A", 0.0), faults=(ServerCrash(2.0, "s1"),))

    assert log.times(LoadFailed) == [2.0]
    assert log.times(LoadFinished) == [10.0]  # alone, from 2 s on


def test_a_helper_that_leaves_ends_the_pipeline() -> None:
    _, log = _run(job_of(1, "A", 0.0), faults=(ServerLeave(5.0, "s1"),))

    assert log.times(InstanceLost) == [5.0]
    assert log.times(InferenceFinished)  # it ran again


def test_a_crash_of_a_former_helper_has_no_effect() -> None:
    _, log = _run(job_of(1, "A", 0.0, 63), faults=(ServerCrash(9.0, "s1"),))

    assert log.times(InstanceLost) == log.times(LoadFailed) == []
    assert len(log.times(InferenceFinished)) == 1


def test_a_pipeline_of_one_part_is_no_slower() -> None:
    timing = PipelineTiming(TIMING, 1)

    assert (timing.fixed_s, timing.prefill_s(7)) == (TIMING.fixed_s, TIMING.prefill_s(7))
    assert timing.prefill_s(0) == 0.0
