"""How patient a host is."""

from dataclasses import dataclass, field

from sllmcore.errors import UsageError
from sllmreal.migration.destination import DestinationOptions
from sllmreal.migration.source import SourceOptions


@dataclass(frozen=True, slots=True)
class HostOptions:
    """`lease_s` without a word about a stream, and the host drops it."""

    lease_s: float = 30.0
    source: SourceOptions = field(default_factory=SourceOptions)
    destination: DestinationOptions = field(default_factory=DestinationOptions)

    def __post_init__(self) -> None:
        if self.lease_s <= 0:
            raise UsageError(f"lease_s must be positive, got {self.lease_s}")
