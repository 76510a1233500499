"""Links between hosts: one per move, named by its ticket, in order, alive or lost.

A link that is alive loses nothing. Both ends of a link are told once when it is lost, unless they
closed it themselves.
"""

import threading
from typing import Protocol

from sllmreal.migration.messages import ToDestination, ToSource

PeerMessage = ToDestination | ToSource


class LinkEvents(Protocol):
    """Who is told, from any thread, and must not block."""

    def received(self, link_id: bytes, message: PeerMessage) -> None: ...

    def lost(self, link_id: bytes, reason: str) -> None: ...


class MigrationLinks(Protocol):
    """The links of one host. No method waits for the other end."""

    @property
    def address(self) -> str:
        """Where other hosts connect to."""
        ...

    def listen_to(self, events: LinkEvents) -> None:
        """Called once, before anything else."""
        ...

    def expect(self, link_id: bytes, key: bytes) -> None: ...

    def connect(self, link_id: bytes, key: bytes, address: str) -> None: ...

    def transmit(self, link_id: bytes, message: PeerMessage) -> None:
        """Queue a message. A link that is not there swallows it: its loss has been told."""
        ...

    def disconnect(self, link_id: bytes) -> None:
        """Send what is queued, then close; expect the ticket no longer."""
        ...

    def close(self) -> None: ...


class LocalNetwork:
    """Hosts of one process find each other here."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.hosts: dict[str, LocalLinks] = {}

    def links(self, name: str) -> "LocalLinks":
        with self.lock:
            self.hosts[name] = LocalLinks(self, name)
            return self.hosts[name]


class LocalLinks:
    """Links inside one process: a message is handed over as it is."""

    def __init__(self, network: LocalNetwork, name: str) -> None:
        self._network = network
        self._name = name
        self._events: LinkEvents | None = None
        self._expected: dict[bytes, bytes] = {}
        self._peers: dict[bytes, LocalLinks] = {}

    @property
    def address(self) -> str:
        return f"local:{self._name}"

    def listen_to(self, events: LinkEvents) -> None:
        self._events = events

    def expect(self, link_id: bytes, key: bytes) -> None:
        with self._network.lock:
            self._expected[link_id] = key

    def connect(self, link_id: bytes, key: bytes, address: str) -> None:
        with self._network.lock:
            peer = self._network.hosts.get(address.removeprefix("local:"))
            if peer is None or peer._expected.get(link_id) != key:
                self._lost(link_id, f"nobody at {address} expects this move")
                return
            self._peers[link_id], peer._peers[link_id] = peer, self

    def transmit(self, link_id: bytes, message: PeerMessage) -> None:
        with self._network.lock:
            peer = self._peers.get(link_id)
            if peer is not None and peer._events is not None:
                peer._events.received(link_id, message)

    def disconnect(self, link_id: bytes) -> None:
        with self._network.lock:
            self._expected.pop(link_id, None)
            peer = self._peers.pop(link_id, None)
            if peer is not None and peer._peers.pop(link_id, None) is not None:
                peer._lost(link_id, "the other end closed the link")

    def close(self) -> None:
        with self._network.lock:
            self._network.hosts.pop(self._name, None)
            for link_id in list(self._peers):
                self.disconnect(link_id)

    def _lost(self, link_id: bytes, reason: str) -> None:
        if self._events is not None:
            self._events.lost(link_id, reason)
