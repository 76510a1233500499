"""Options of a worker's engine processes."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sllmcore.errors import UsageError
from sllmreal.streams.host_io import HostOptions


@dataclass(frozen=True, slots=True)
class ProcessOptions:
    """Options of all engine processes of a worker.

    Args:
        beat_s: Seconds between two pings.
        max_unanswered: A process that leaves so many pings in a row unanswered is lost.
        max_unanswered_booting: The same limit while the process imports modules or makes an engine,
            which delays its answers.
        move_address: Where engine hosts listen for other hosts: `tcp:HOST:0`, or `unix:DIRECTORY`,
            in which each host has a socket of its own.
        environment: Environment variables besides the worker's own.
        host: Options of the engine hosts.
        num_spares: Number of spare processes.
        spare_delay_s: No spare is booted for so long after the last start of an instance.
    """

    beat_s: float = 1.0
    max_unanswered: int = 10
    max_unanswered_booting: int = 120
    move_address: str = "tcp:127.0.0.1:0"
    environment: Mapping[str, str] = field(default_factory=dict)
    host: HostOptions = field(default_factory=HostOptions)
    num_spares: int = 1
    spare_delay_s: float = 2.0

    def __post_init__(self) -> None:
        if self.beat_s <= 0 or min(self.max_unanswered, self.max_unanswered_booting) < 1:
            raise UsageError(f"beat_s and the limits of pings must be positive, got {self}")
        if self.num_spares < 0 or self.spare_delay_s < 0:
            raise UsageError(f"num_spares and spare_delay_s must not be negative, got {self}")
