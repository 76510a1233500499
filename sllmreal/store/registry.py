"""The registry of stores, and the one parser of a store's URL: `KIND` or `KIND:PLACE`."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from sllmcore.errors import UsageError
from sllmcore.plugins import PLUGINS, is_reference
from sllmcore.registry import Registry
from sllmreal.store.protocol import Store


@dataclass(frozen=True, slots=True)
class StoreKind:
    """A kind of store to be registered: entry point group `sllm.stores`.

    Args:
        open: Opens the store at the place that its URL names, which is empty if the URL is the
            kind alone; the path is where a store that is a file lies unless its URL names a place.
        syntax: The URL, for help texts, such as "etcd:HOST:PORT,HOST:PORT".
        check: Refuses a place by a UsageError, without opening the store.
        shared: Processes on other machines open the same store: leaders may stand by, and the
            store has the present leader's address.
        durable: Acknowledged writes survive a restart of the process.
    """

    open: Callable[[str, Path], Awaitable[Store]]
    syntax: str
    check: Callable[[str], None] = lambda _: None
    shared: bool = False
    durable: bool = True


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """A parsed URL of a store."""

    kind: StoreKind
    place: str

    async def opened(self, file: Path) -> Store:
        """Open the store. Raises StoreUnavailableError or another StoreError if that fails."""
        return await self.kind.open(self.place, file)


def parsed_store(url: str) -> StoreUrl:
    """Return a store's kind and place.

    A kind `module:name` is imported: a URL comes from a command line or from the cluster's home.

    Raises:
        UsageError: The kind is unknown (the error lists the known ones), or refuses the place.
    """
    name, _, place = url.partition(":")
    head, _, rest = place.partition(":")
    reference = f"{name}:{head}"
    if name not in STORES.names() and is_reference(reference) and find_spec(_top(name)):
        name, place = reference, rest
        PLUGINS.allow([reference])
    kind = STORES[name]
    kind.check(place)
    return StoreUrl(kind, place)


def _top(module: str) -> str:
    return module.partition(".")[0]


def store_help() -> str:
    """Return the URLs of the stores that come with the toolkit and are durable."""
    return " or ".join(kind.syntax for kind in STORES.built_in.values() if kind.durable)


async def _open_memory(place: str, file: Path) -> Store:
    from sllmreal.store.memory import MemoryStore

    return MemoryStore()


async def _open_sqlite(place: str, file: Path) -> Store:
    from sllmreal.store.sqlite import SqliteStore

    return await SqliteStore.open(_path(place) if place else file)


def _path(place: str) -> Path:
    return Path(place).expanduser()


async def _open_etcd(place: str, file: Path) -> Store:
    from sllmreal.store.etcd import EtcdStore  # needs grpc

    return await EtcdStore.open(place.split(","))


def _check_memory(place: str) -> None:
    if place:
        raise UsageError(f"a store in memory has no place, got {place!r}: write memory")


def _check_etcd(place: str) -> None:
    if not all(address.rpartition(":")[2].isdecimal() for address in place.split(",")):
        raise UsageError(f"a store in etcd is etcd:HOST:PORT,HOST:PORT,..., got etcd:{place}")


STORES: Registry[StoreKind] = Registry(
    "store",
    "sllm.stores",
    StoreKind,
    {
        "sqlite": StoreKind(_open_sqlite, "sqlite[:FILE]"),
        "etcd": StoreKind(_open_etcd, "etcd:HOST:PORT,HOST:PORT", _check_etcd, shared=True),
        "memory": StoreKind(_open_memory, "memory", _check_memory, durable=False),
    },
    PLUGINS,
)
