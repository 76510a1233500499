"""What a desk needs of the world: connections to engines, and to the leader."""

from typing import Protocol

from sllmreal.engine import wire
from sllmreal.protocol.messages import ReportedEvent


class DataPlane(Protocol):
    """Connections to engines, by the address of their worker's data plane."""

    def send(self, address: str, instance_id: str, message: wire.ToHost) -> None:
        """Say this to an instance's host. It may get lost."""
        ...

    def online(self, instance_id: str) -> wire.Online | None:
        """What an instance's host said of itself; None where it has not been spoken to."""
        ...

    def keep(self, addresses: tuple[str, ...]) -> None:
        """Workers elsewhere are lost: close what leads there."""
        ...


class Link(Protocol):
    """To the leader: `LeaderLink`."""

    def report(self, event: ReportedEvent) -> None: ...

    def now_s(self) -> float: ...
