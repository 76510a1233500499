"""Where the processes of a cluster find each other, and how they connect to its leader."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from sllmreal.control.home import LEADER_KEY
from sllmreal.control.leader_link import LeaderChannel
from sllmreal.control.messages import FromLeader
from sllmreal.store.errors import StoreUnavailableError
from sllmreal.transport.errors import ChannelClosedError
from sllmreal.transport.socket_channel import dial

_ETCD = "etcd:"


class Site(Protocol):
    """What a process has to know of its cluster: a `Home`, or what it was told elsewhere."""

    @property
    def leader(self) -> str:
        """The leader's address, or `etcd:HOST:PORT,HOST:PORT,...`, a store that knows it."""
        ...

    def key(self) -> bytes:
        """The cluster's."""
        ...

    def worker(self, server_id: str) -> str:
        """Where that server's data plane is to listen."""
        ...


def leader_dial(site: Site) -> Callable[[], Awaitable[LeaderChannel]]:
    """Connects to whoever leads the site's cluster."""
    key = site.key()

    async def dial_leader() -> LeaderChannel:
        address = site.leader
        if address.startswith(_ETCD):
            address = await _published(address.removeprefix(_ETCD).split(","))
        return await dial(address, key, FromLeader)

    return dial_leader


async def _published(nodes: list[str]) -> str:
    from sllmreal.store.etcd import EtcdStore  # needs grpc

    try:
        store = await EtcdStore.open(nodes)
        try:
            found = await store.get(LEADER_KEY)
        finally:
            await store.close()
    except StoreUnavailableError as error:
        raise ChannelClosedError(f"the store cannot say who leads: {error}") from error
    if found is None:
        raise ChannelClosedError("nobody leads")
    return found.value.decode()
