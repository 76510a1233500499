"""Small instances by hand: models of 12 GB that take 1 s from DRAM, 4 s from SSD."""

from collections.abc import Sequence

from experiments.reproduction.bounds.grid import TimeGrid, grid_of
from experiments.reproduction.bounds.instances import (
    GB,
    SLOT_S,
    TIMING,
    SmallInstance,
    hardware_of,
    job_of,
)
from experiments.reproduction.bounds.oracle import oracle_of
from experiments.reproduction.bounds.program import PlacementProgram
from sllmcore.types import DRAM, SSD, Checkpoint, Residency
from sllmcore.workload import WorkloadRequest
from sllmsim.setup import SimModel, SimServerSetup, SimSetup

SIZE_BYTES = 12 * GB


def asked(*requests: tuple[str, float, int]) -> tuple[WorkloadRequest, ...]:
    """Jobs from (model, arrival, service)."""
    return tuple(job_of(i, *request) for i, request in enumerate(requests))


def server_of(
    number: int, num_gpus: int = 1, models: str = "AB", dram: int = 2, in_dram: str = ""
) -> SimServerSetup:
    """All `models` on SSD; room for `dram` of them in DRAM, where some are already."""
    resident = [Residency(SSD, model, SIZE_BYTES) for model in models]
    resident += [Residency(DRAM, model, SIZE_BYTES) for model in in_dram]
    return SimServerSetup(f"s{number}", hardware_of(num_gpus, dram * SIZE_BYTES), tuple(resident))


def instance_of(
    servers: Sequence[SimServerSetup], jobs: Sequence[WorkloadRequest], num_gpus: int = 1
) -> SmallInstance:
    """Of all models that are asked for, each on `num_gpus`."""
    names = sorted({job.request.model for job in jobs})
    models = tuple(SimModel(Checkpoint(n, SIZE_BYTES * num_gpus, num_gpus), TIMING) for n in names)
    return SmallInstance(SimSetup(tuple(servers), models), tuple(jobs))


def grid_within(instance: SmallInstance, total_delay_s: float) -> TimeGrid:
    return grid_of(oracle_of(instance.setup, instance.jobs), SLOT_S, total_delay_s)


def optimum_s(
    instance: SmallInstance, total_delay_s: float = 16.0, *, sequential: bool = True
) -> float:
    """The least total delay, solved to optimality; `total_delay_s` must not be less."""
    program = PlacementProgram(grid_within(instance, total_delay_s), sequential=sequential)
    solved = program.solve()
    assert solved.exact
    assert solved.cost is not None
    assert abs(solved.bound - solved.cost) < 1e-4
    return solved.bound
