"""Small instances with models of 12 GB that load in 1 s from DRAM and 4 s from SSD."""

from collections.abc import Sequence

from experiments.reproduction.bounds.grid import TimeGrid, grid_of
from experiments.reproduction.bounds.instances import (
    GB,
    SLOT_S,
    TIMING,
    SmallInstance,
    hardware_of,
    request_of,
)
from experiments.reproduction.bounds.oracle import oracle_of
from experiments.reproduction.bounds.program import PlacementProgram
from sllmcore.types import DRAM, SSD, Checkpoint, Residency
from sllmcore.workload import WorkloadRequest
from sllmsim.setup import SimModel, SimServerSetup, SimSetup

SIZE_BYTES = 12 * GB


def workload(*requests: tuple[str, float, int]) -> tuple[WorkloadRequest, ...]:
    """Return requests, each given by model, arrival and service time in seconds."""
    return tuple(request_of(i, *request) for i, request in enumerate(requests))


def server_of(
    number: int, num_gpus: int = 1, models: str = "AB", dram: int = 2, in_dram: str = ""
) -> SimServerSetup:
    """Return a server with `models` on SSD, and DRAM for `dram` models that holds `in_dram`."""
    resident = [Residency(SSD, model, SIZE_BYTES) for model in models]
    resident += [Residency(DRAM, model, SIZE_BYTES) for model in in_dram]
    return SimServerSetup(f"s{number}", hardware_of(num_gpus, dram * SIZE_BYTES), tuple(resident))


def instance_of(
    servers: Sequence[SimServerSetup], requests: Sequence[WorkloadRequest], num_gpus: int = 1
) -> SmallInstance:
    """Return an instance with the models of the requests, each on `num_gpus` GPUs."""
    names = sorted({item.request.model for item in requests})
    models = tuple(SimModel(Checkpoint(n, SIZE_BYTES * num_gpus, num_gpus), TIMING) for n in names)
    return SmallInstance(SimSetup(tuple(servers), models), tuple(requests))


def grid_within(instance: SmallInstance, total_delay_s: float) -> TimeGrid:
    """Return the grid of an instance for schedules of at most this total delay."""
    return grid_of(oracle_of(instance.setup, instance.requests), SLOT_S, total_delay_s)


def optimum_s(
    instance: SmallInstance, total_delay_s: float = 16.0, *, sequential: bool = True
) -> float:
    """Return the least total delay; `total_delay_s` is a known upper bound of it."""
    program = PlacementProgram(grid_within(instance, total_delay_s), sequential=sequential)
    solved = program.solve()
    assert solved.exact
    assert solved.cost is not None
    assert abs(solved.bound - solved.cost) < 1e-4
    return solved.bound
