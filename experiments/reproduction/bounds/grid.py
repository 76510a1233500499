"""A small instance on a grid of time slots, rounded so that feasible schedules stay feasible.

Arrivals and all durations are rounded *down* to whole slots. Take any run and shift each start to
the beginning of its slot. With whole durations, the activities that overlap slot k are then exactly
those in progress just before the end of that slot in the run. So every limit that holds at each
instant of the run (GPUs, I/O paths, bytes in DRAM) holds in each slot of the grid, and no start is
later than in the run.
"""

from dataclasses import dataclass
from math import ceil, floor

from experiments.reproduction.bounds.oracle import Oracle, could_hold, earliest_starts_s
from sllmcore.errors import UsageError
from sllmcore.types import DRAM, REMOTE, SSD, Checkpoint, StorageTier
from sllmsim.setup import SimServerSetup

_ROUNDING = 1e-9  # in slots; a duration this close below a whole number counts as whole


@dataclass(frozen=True, slots=True)
class GridRequest:
    """A request on the grid.

    Args:
        release, last: First and last slot in which it may start.
        service, service_most: Its service time in slots, rounded down and up.
    """

    model: str
    arrived_at_s: float
    release: int
    service: int
    service_most: int
    last: int


@dataclass(frozen=True, slots=True)
class LoadOption:
    """An option to load a model: a server, a tier, and the duration in slots."""

    server: int
    checkpoint: Checkpoint
    tier: StorageTier
    slots: int

    @property
    def model(self) -> str:
        """Name of the loaded model."""
        return self.checkpoint.model


@dataclass(frozen=True, slots=True)
class CacheTier:
    """A tier of a server with changing content.

    Args:
        at_start: Models in the tier at the start.
    """

    server: int
    tier: StorageTier
    capacity_bytes: int
    at_start: frozenset[str]


@dataclass(frozen=True, slots=True)
class TimeGrid:
    """A small instance: the input of the integer program.

    Args:
        gpus: Number of GPUs of each server.
    """

    slot_s: float
    num_slots: int
    requests: tuple[GridRequest, ...]
    checkpoints: tuple[Checkpoint, ...]
    gpus: tuple[int, ...]
    options: tuple[LoadOption, ...]
    cache_tiers: tuple[CacheTier, ...]

    def of_model(self, model: str) -> list[int]:
        """Return the positions of the requests of a model."""
        return [i for i, request in enumerate(self.requests) if request.model == model]


def grid_of(oracle: Oracle, slot_s: float, total_delay_s: float) -> TimeGrid:
    """Return the grid of an instance, limited to schedules no worse than a known one.

    Args:
        total_delay_s: Sum of the delays under a known schedule, such as a policy's. In a better
            schedule, the delay of a request is at most this sum minus the least delays of the
            others, which limits the slots of its start.

    Raises:
        UsageError: `slot_s` is not positive.
    """
    if slot_s <= 0:
        raise UsageError(f"slot_s must be positive, got {slot_s}")
    floors_s = [
        start_s - request.arrived_at_s
        for request, start_s in zip(oracle.requests, earliest_starts_s(oracle), strict=True)
    ]
    spare_s = max(0.0, total_delay_s - sum(floors_s))
    requests = tuple(
        GridRequest(
            model=request.checkpoint.model,
            arrived_at_s=request.arrived_at_s,
            release=_slots(request.arrived_at_s, slot_s),
            service=_slots(request.service_s, slot_s),
            service_most=ceil(request.service_s / slot_s - _ROUNDING),
            last=_slots(request.arrived_at_s + floor_s + spare_s, slot_s),
        )
        for request, floor_s in zip(oracle.requests, floors_s, strict=True)
    )
    asked = {request.model for request in requests}
    checkpoints = [model.checkpoint for model in oracle.setup.models]
    used = tuple(checkpoint for checkpoint in checkpoints if checkpoint.model in asked)
    options: list[LoadOption] = []
    cache_tiers: list[CacheTier] = []
    for number, server in enumerate(oracle.setup.servers):
        tiers = _tiers(server, used)
        cache_tiers += _cache_tiers(number, server, tiers)
        options += _options(oracle=oracle, number=number, slot_s=slot_s, used=used, tiers=tiers)
    return TimeGrid(
        slot_s=slot_s,
        num_slots=max(request.last + max(1, request.service) for request in requests),
        requests=requests,
        checkpoints=used,
        gpus=tuple(server.hardware.num_gpus for server in oracle.setup.servers),
        options=tuple(options),
        cache_tiers=tuple(cache_tiers),
    )


def _slots(duration_s: float, slot_s: float) -> int:
    return floor(duration_s / slot_s + _ROUNDING)


def _held(server: SimServerSetup, tier: StorageTier) -> frozenset[str]:
    return frozenset(found.model for found in server.resident if found.tier is tier)


def _tiers(server: SimServerSetup, used: tuple[Checkpoint, ...]) -> tuple[StorageTier, ...]:
    """Return the tiers that loads can come from.

    A server that holds all models on its SSD never evicts one, so it never loads from remote.
    """
    on_ssd = _held(server, SSD)
    if all(checkpoint.model in on_ssd for checkpoint in used):
        return (SSD, DRAM)
    return (REMOTE, SSD, DRAM)


def _cache_tiers(
    number: int, server: SimServerSetup, tiers: tuple[StorageTier, ...]
) -> list[CacheTier]:
    hardware = server.hardware
    found = [CacheTier(number, DRAM, hardware.dram_pool_bytes, _held(server, DRAM))]
    if REMOTE in tiers:
        found.append(CacheTier(number, SSD, hardware.ssd_bytes, _held(server, SSD)))
    return found


def _options(
    oracle: Oracle,
    number: int,
    slot_s: float,
    used: tuple[Checkpoint, ...],
    tiers: tuple[StorageTier, ...],
) -> list[LoadOption]:
    hardware = oracle.setup.servers[number].hardware
    capacity_bytes = {DRAM: hardware.dram_pool_bytes, SSD: hardware.ssd_bytes}
    return [
        LoadOption(number, checkpoint, tier, slots)
        for checkpoint in used
        if could_hold(hardware, checkpoint)
        for tier in tiers
        if tier is REMOTE or capacity_bytes[tier] >= checkpoint.size_bytes
        for slots in [_slots(oracle.least_load_s(checkpoint, hardware, tier), slot_s)]
    ]
