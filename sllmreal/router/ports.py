"""The router's interfaces to engine hosts and to the leader."""

from collections.abc import Mapping
from typing import Protocol

from sllmreal.control.messages import ReportedEvent
from sllmreal.streams import messages


class HostConnections(Protocol):
    """Connections to engine hosts, by the address of their worker's data plane."""

    def send(self, address: str, instance_id: str, message: messages.ToHost) -> None:
        """Send a message to an instance's host. It may be lost."""
        ...

    def online(self, instance_id: str) -> messages.HostOnline | None:
        """Return the HostOnline of an instance's host; None if it has not been received."""
        ...

    def set_workers(self, addresses: tuple[str, ...]) -> None:
        """Connect to these workers, and close the connections to all others."""
        ...


class LeaderPort(Protocol):
    """The link to the leader: `LeaderLink`."""

    @property
    def unservable(self) -> Mapping[str, str]:
        """By name of the model, the reasons why no server can run it."""
        ...

    def report(self, event: ReportedEvent) -> None: ...

    def now_s(self) -> float: ...
