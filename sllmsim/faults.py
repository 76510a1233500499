"""Faults, and plans of faults drawn from a seed before the run begins."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from sllmcore.errors import UsageError


@dataclass(frozen=True, slots=True)
class ServerCrash:
    """A server crashes. It returns with the models on its SSD; None: never."""

    at_s: float
    server_id: str
    return_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class ServerLeave:
    """A server drains, and leaves when it has no instance any more."""

    at_s: float
    server_id: str


@dataclass(frozen=True, slots=True)
class EngineCrash:
    """The engine that was launched last on a server crashes, if there is one."""

    at_s: float
    server_id: str


@dataclass(frozen=True, slots=True)
class LoadFailure:
    """The loads under way on a server fail."""

    at_s: float
    server_id: str


@dataclass(frozen=True, slots=True)
class SlowDisk:
    """An SSD reads and writes at `factor` of its bandwidth for a while."""

    at_s: float
    server_id: str
    factor: float
    duration_s: float


@dataclass(frozen=True, slots=True)
class LinkLoss:
    """A server's NIC carries nothing for a while; migrations from and to the server fail."""

    at_s: float
    server_id: str
    duration_s: float


@dataclass(frozen=True, slots=True)
class ControllerCrash:
    """The controller crashes; after a while one rebuilt from the journal takes over."""

    at_s: float
    duration_s: float


Fault = (
    ServerCrash | ServerLeave | EngineCrash | LoadFailure | SlowDisk | LinkLoss | ControllerCrash
)


@dataclass(frozen=True, slots=True)
class FaultRates:
    """Mean times between faults, exponentially distributed; None: never.

    All but those of the controller are per server.
    """

    server_crash_every_s: float | None = None
    server_return_after_s: float = 60.0
    engine_crash_every_s: float | None = None
    load_failure_every_s: float | None = None
    slow_disk_every_s: float | None = None
    slow_disk_factor: float = 0.2
    slow_disk_for_s: float = 60.0
    link_loss_every_s: float | None = None
    link_loss_for_s: float = 10.0
    controller_crash_every_s: float | None = None
    controller_down_for_s: float = 5.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(f"{name} must be positive, got {value}")
        if self.slow_disk_factor > 1:
            raise UsageError(f"slow_disk_factor must be at most 1, got {self.slow_disk_factor}")


def draw_faults(
    rates: FaultRates, server_ids: Sequence[str], horizon_s: float, seed: int
) -> tuple[Fault, ...]:
    """Return a plan up to `horizon_s`, in order of time.

    Each kind of fault on each server has random numbers of its own.
    """
    faults: list[Fault] = []
    for server_id in server_ids:
        times = _Times(horizon_s, f"{seed}/{server_id}")
        faults += [
            ServerCrash(at_s, server_id, rates.server_return_after_s)
            for at_s in times.every(rates.server_crash_every_s, "server crash")
        ]
        faults += [
            EngineCrash(at_s, server_id)
            for at_s in times.every(rates.engine_crash_every_s, "engine crash")
        ]
        faults += [
            LoadFailure(at_s, server_id)
            for at_s in times.every(rates.load_failure_every_s, "load failure")
        ]
        faults += [
            SlowDisk(at_s, server_id, rates.slow_disk_factor, rates.slow_disk_for_s)
            for at_s in times.every(rates.slow_disk_every_s, "slow disk")
        ]
        faults += [
            LinkLoss(at_s, server_id, rates.link_loss_for_s)
            for at_s in times.every(rates.link_loss_every_s, "link loss")
        ]
    times = _Times(horizon_s, f"{seed}/controller")
    faults += [
        ControllerCrash(at_s, rates.controller_down_for_s)
        for at_s in times.every(rates.controller_crash_every_s, "controller crash")
    ]
    return tuple(sorted(faults, key=lambda fault: fault.at_s))


@dataclass(frozen=True, slots=True)
class _Times:
    horizon_s: float
    seed: str

    def every(self, mean_s: float | None, kind: str) -> list[float]:
        if mean_s is None:
            return []
        rng = Random(f"{self.seed}/{kind}")  # noqa: S311 - a simulation, not a secret
        times: list[float] = []
        at_s = rng.expovariate(1 / mean_s)
        while at_s < self.horizon_s:
            times.append(at_s)
            at_s += rng.expovariate(1 / mean_s)
        return times
