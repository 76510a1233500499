"""Links between hosts, one per migration. A link keeps the order of messages and loses none.

When a link is lost, each end that has not closed it is notified once.
"""

import threading
from typing import Protocol

from sllmreal.migration.messages import ToDestination, ToSource

PeerMessage = ToDestination | ToSource


class LinkEvents(Protocol):
    """A receiver of events, called from any thread. Its methods must not block."""

    def received(self, link_id: bytes, message: PeerMessage) -> None:
        """Handle a message from the other end."""
        ...

    def lost(self, link_id: bytes, reason: str) -> None:
        """Handle the loss of a link."""
        ...


class MigrationLinks(Protocol):
    """The links of one host. No method waits for the other end."""

    @property
    def address(self) -> str:
        """The address to which other hosts connect."""
        ...

    def listen_to(self, events: LinkEvents) -> None:
        """Set the receiver of events. Called once, before any other method."""
        ...

    def expect(self, link_id: bytes, key: bytes) -> None:
        """Accept a link from a source that has `key`."""
        ...

    def connect(self, link_id: bytes, key: bytes, address: str) -> None:
        """Open a link to the host at `address`, which expects it."""
        ...

    def transmit(self, link_id: bytes, message: PeerMessage) -> None:
        """Queue a message. Ignored for a link that is closed or lost."""
        ...

    def disconnect(self, link_id: bytes) -> None:
        """Send the queued messages, then close the link; no longer expect it."""
        ...

    def close(self) -> None:
        """Close all links."""
        ...


class LocalNetwork:
    """The hosts of one process, by name."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.hosts: dict[str, LocalLinks] = {}

    def links(self, name: str) -> "LocalLinks":
        """Return the links of a new host."""
        with self.lock:
            self.hosts[name] = LocalLinks(self, name)
            return self.hosts[name]


class LocalLinks:
    """The links of one host to others in the same process. Messages are not encoded."""

    def __init__(self, network: LocalNetwork, name: str) -> None:
        self._network = network
        self._name = name
        self._events: LinkEvents | None = None
        self._expected: dict[bytes, bytes] = {}
        self._peers: dict[bytes, LocalLinks] = {}

    @property
    def address(self) -> str:
        """See `MigrationLinks`; so for all methods."""
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
                self._lost(link_id, f"no host at {address} expects this migration")
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
