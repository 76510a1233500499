"""Sites: the addresses and the key with which a process finds the others of its cluster."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from sllmreal.control.home import LEADER_KEY
from sllmreal.control.leader_link import LeaderChannel
from sllmreal.control.messages import FromLeader
from sllmreal.store.errors import StoreUnavailableError
from sllmreal.store.registry import StoreUrl, parsed_store
from sllmreal.transport.addresses import is_address
from sllmreal.transport.errors import ChannelClosedError
from sllmreal.transport.socket_channel import dial

_NO_FILE = Path("no-file")  # a shared store's URL names its place


class Site(Protocol):
    """The addresses and the key of a cluster: a `Home`, or the same from another source."""

    @property
    def leader(self) -> str:
        """The leader's address, or the URL of a shared store that contains it."""
        ...

    def key(self) -> bytes:
        """Return the cluster's key."""
        ...

    def worker(self, server_id: str) -> str:
        """Return the address at which a server's data plane is to listen."""
        ...


def leader_dial(site: Site) -> Callable[[], Awaitable[LeaderChannel]]:
    """Return a function that connects to the present leader. It raises ChannelClosedError."""
    key = site.key()

    async def dial_leader() -> LeaderChannel:
        address = site.leader
        if not is_address(address):
            address = await _published(parsed_store(address))
        return await dial(address, key, FromLeader)

    return dial_leader


async def _published(where: StoreUrl) -> str:
    try:
        store = await where.opened(_NO_FILE)
        try:
            found = await store.get(LEADER_KEY)
        finally:
            await store.close()
    except StoreUnavailableError as error:
        raise ChannelClosedError(f"the leader's address cannot be read: {error}") from error
    if found is None:
        raise ChannelClosedError("the store has no leader's address")
    return found.value.decode()
