"""What a host asks of whoever runs it: words to the owner, and links between hosts.

A link belongs to one move and is named by its ticket (`sllmreal.migration.frames.link_id_of`).
"""

from dataclasses import dataclass

from sllmreal.migration.messages import ToDestination, ToSource
from sllmreal.streams.messages import ToOwner


@dataclass(frozen=True, slots=True)
class SendToOwner:
    """Say this to the owner."""

    message: ToOwner


@dataclass(frozen=True, slots=True)
class Expect:
    """A source that proves to know `key` may connect."""

    link_id: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class Connect:
    """Connect to the host that expects this ticket."""

    link_id: bytes
    key: bytes
    address: str


@dataclass(frozen=True, slots=True)
class Transmit:
    """Send this over a link, in order."""

    link_id: bytes
    message: ToDestination | ToSource


@dataclass(frozen=True, slots=True)
class Disconnect:
    """A link is not needed any more: flush and close it, expect it no longer."""

    link_id: bytes


Effect = SendToOwner | Expect | Connect | Transmit | Disconnect
