"""A small instance on a grid of time slots, rounded so that what is feasible stays feasible.

Arrivals and all durations are rounded *down* to whole slots. Take any run and move each start to
the beginning of its slot: with whole durations, what overlaps slot k of the grid is then exactly
what was under way just before the end of that slot in the run. So every limit that holds at each
instant of the run (GPUs, I/O paths, bytes in DRAM) holds in each slot of the grid, and no start has
become later.
"""

from dataclasses import dataclass
from math import ceil, floor

from experiments.reproduction.bounds.oracle import Oracle, could_hold, earliest_starts_s
from sllmcore.errors import UsageError
from sllmcore.types import DRAM, REMOTE, SSD, Checkpoint, StorageTier
from sllmsim.setup import SimServerSetup

_ROUNDING = 1e-9  # of a slot: a duration that close to a whole number is one


@dataclass(frozen=True, slots=True)
class GridRequest:
    """A request. It starts in slots `release` to `last`, runs for `service` slots at least, and has
    left after `service_most`."""

    model: str
    arrived_at_s: float
    release: int
    service: int
    service_most: int
    last: int


@dataclass(frozen=True, slots=True)
class Way:
    """A way to load a model: on one server, from one tier, in so many slots."""

    server: int
    checkpoint: Checkpoint
    tier: StorageTier
    slots: int

    @property
    def model(self) -> str:
        return self.checkpoint.model


@dataclass(frozen=True, slots=True)
class CachedCopy:
    """A tier of a server whose content can change."""

    server: int
    tier: StorageTier
    capacity_bytes: int
    at_start: frozenset[str]


@dataclass(frozen=True, slots=True)
class TimeGrid:
    """A small instance, all that the integer program knows of it."""

    slot_s: float
    num_slots: int
    requests: tuple[GridRequest, ...]
    checkpoints: tuple[Checkpoint, ...]
    gpus: tuple[int, ...]  # of each server
    ways: tuple[Way, ...]
    shelves: tuple[CachedCopy, ...]

    def of_model(self, model: str) -> list[int]:
        """Positions of its requests."""
        return [i for i, request in enumerate(self.requests) if request.model == model]


def grid_of(oracle: Oracle, slot_s: float, total_delay_s: float) -> TimeGrid:
    """The grid of an instance, without what costs more than a schedule that is known.

    Args:
        total_delay_s: Of all requests together under some schedule, such as a policy's: in a
            better one no request is delayed by more, less what the others are at least.
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
            request.checkpoint.model,
            request.arrived_at_s,
            _slots(request.arrived_at_s, slot_s),
            _slots(request.service_s, slot_s),
            ceil(request.service_s / slot_s - _ROUNDING),
            _slots(request.arrived_at_s + floor_s + spare_s, slot_s),
        )
        for request, floor_s in zip(oracle.requests, floors_s, strict=True)
    )
    asked = {request.model for request in requests}
    checkpoints = [model.checkpoint for model in oracle.setup.models]
    used = tuple(checkpoint for checkpoint in checkpoints if checkpoint.model in asked)
    ways: list[Way] = []
    shelves: list[CachedCopy] = []
    for number, server in enumerate(oracle.setup.servers):
        tiers = _tiers(server, used)
        shelves += _shelves(number, server, tiers)
        ways += _ways(oracle, number, slot_s, used, tiers)
    return TimeGrid(
        slot_s,
        max(request.last + max(1, request.service) for request in requests),
        requests,
        used,
        tuple(server.hardware.num_gpus for server in oracle.setup.servers),
        tuple(ways),
        tuple(shelves),
    )


def _slots(duration_s: float, slot_s: float) -> int:
    return floor(duration_s / slot_s + _ROUNDING)


def _held(server: SimServerSetup, tier: StorageTier) -> frozenset[str]:
    return frozenset(found.model for found in server.resident if found.tier is tier)


def _tiers(server: SimServerSetup, used: tuple[Checkpoint, ...]) -> tuple[StorageTier, ...]:
    """Those that loads can come from. A server whose SSD holds all models never evicts one."""
    on_ssd = _held(server, SSD)
    if all(checkpoint.model in on_ssd for checkpoint in used):
        return (SSD, DRAM)
    return (REMOTE, SSD, DRAM)


def _shelves(
    number: int, server: SimServerSetup, tiers: tuple[StorageTier, ...]
) -> list[CachedCopy]:
    hardware = server.hardware
    shelves = [CachedCopy(number, DRAM, hardware.dram_pool_bytes, _held(server, DRAM))]
    if REMOTE in tiers:
        shelves.append(CachedCopy(number, SSD, hardware.ssd_bytes, _held(server, SSD)))
    return shelves


def _ways(
    oracle: Oracle,
    number: int,
    slot_s: float,
    used: tuple[Checkpoint, ...],
    tiers: tuple[StorageTier, ...],
) -> list[Way]:
    hardware = oracle.setup.servers[number].hardware
    rooms = {DRAM: hardware.dram_pool_bytes, SSD: hardware.ssd_bytes}
    return [
        Way(number, checkpoint, tier, slots)
        for checkpoint in used
        if could_hold(hardware, checkpoint)
        for tier in tiers
        if tier is REMOTE or rooms[tier] >= checkpoint.size_bytes
        for slots in [_slots(oracle.least_load_s(checkpoint, hardware, tier), slot_s)]
    ]
