"""How engine processes are run and watched."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sllmcore.errors import UsageError
from sllmreal.streams.host_io import HostOptions


@dataclass(frozen=True, slots=True)
class ProcessOptions:
    """Of all engine processes of a worker.

    A process that leaves `max_unanswered` pings in a row without an answer, `beat_s` apart, is
    lost; while it imports or makes an engine, `max_unanswered_booting`, for that holds everything
    else up. `environment` is added to the worker's own. Hosts listen for the other hosts of their
    cluster at `move_address`: `tcp:HOST:0`, or each at a socket of its own in `unix:DIRECTORY`.
    `Spares` keeps `num_spares`, and boots none until `spare_delay_s` after the last start.
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
            raise UsageError(f"beats and pings must be positive, got {self}")
        if self.num_spares < 0 or self.spare_delay_s < 0:
            raise UsageError(f"num_spares and spare_delay_s must not be negative, got {self}")
