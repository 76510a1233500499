"""Options and outputs of a `HostCore`.

A link belongs to one migration and is named by its id (`sllmreal.migration.frames.link_id_of`).
"""

from dataclasses import dataclass, field

from sllmcore.errors import UsageError
from sllmreal.migration.destination import DestinationOptions
from sllmreal.migration.messages import ToDestination, ToSource
from sllmreal.migration.source import SourceOptions
from sllmreal.streams.messages import ToOwner


@dataclass(frozen=True, slots=True)
class HostOptions:
    """Time-outs of a host. A stream is dropped `lease_s` after the last message about it."""

    lease_s: float = 30.0
    source: SourceOptions = field(default_factory=SourceOptions)
    destination: DestinationOptions = field(default_factory=DestinationOptions)

    def __post_init__(self) -> None:
        if self.lease_s <= 0:
            raise UsageError(f"lease_s must be positive, got {self.lease_s}")


@dataclass(frozen=True, slots=True)
class SendToOwner:
    """Send a message to the owner."""

    message: ToOwner


@dataclass(frozen=True, slots=True)
class Expect:
    """Accept a source that proves to know `key`."""

    link_id: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class Connect:
    """Connect to the host at `address`, which expects this link."""

    link_id: bytes
    key: bytes
    address: str


@dataclass(frozen=True, slots=True)
class Transmit:
    """Send a message over a link, in order."""

    link_id: bytes
    message: ToDestination | ToSource


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Flush and close a link, and expect it no longer."""

    link_id: bytes


HostOutput = SendToOwner | Expect | Connect | Transmit | Disconnect
