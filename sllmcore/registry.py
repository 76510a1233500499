"""Registries: policies, engines, stores and trace formats by name, built in or from outside.

An item from outside is an entry point of an installed distribution, or is named by the user as
`module:name`. A registry imports nothing itself: its source does, see `sllmcore.plugins`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Generic, Protocol, TypeVar

from sllmcore.errors import UsageError

Item = TypeVar("Item")


class UnknownNameError(UsageError):
    """Nothing is registered under a name."""


class PluginSource(Protocol):
    """Finds what is not built in."""

    def names(self, group: str) -> tuple[str, ...]:
        """Return the names of a group's installed entry points, sorted."""
        ...

    def load(self, group: str, name: str) -> object | None:
        """Return the object that a name refers to; None if it refers to nothing.

        Raises:
            UsageError: The object cannot be loaded, or this process may not import it.
        """
        ...


@dataclass(slots=True, eq=False)
class Registry(Generic[Item]):
    """Items of one kind. As a collection, the names of those that are built in.

    Args:
        what: The word for one item in errors, such as "policy".
        group: The entry point group of items from outside.
        kind: The class of the items.
        built_in: The toolkit's own items; nothing from outside replaces one of them.
        source: Finds other items.
        adapt: Makes an item of an object that is none; returns None if it cannot.
    """

    what: str
    group: str
    kind: type[Item]
    built_in: Mapping[str, Item]
    source: PluginSource
    adapt: Callable[[object], Item | None] = lambda _: None
    _loaded: dict[str, Item] = field(default_factory=dict)

    def __iter__(self) -> Iterator[str]:
        return iter(self.built_in)

    def __len__(self) -> int:
        return len(self.built_in)

    def __contains__(self, name: object) -> bool:
        return name in self.built_in

    def names(self) -> tuple[str, ...]:
        """Return the names of the built-in and of the installed items."""
        installed = self.source.names(self.group)
        return (*self.built_in, *(name for name in installed if name not in self.built_in))

    def __getitem__(self, name: str) -> Item:
        """Return an item.

        Raises:
            UnknownNameError: There is no such item; the error lists the known names.
            UsageError: The item cannot be loaded.
        """
        item = self.built_in.get(name) or self._loaded.get(name)
        if item is None:
            item = self._loaded[name] = self._load(name)
        return item

    def _load(self, name: str) -> Item:
        found = self.source.load(self.group, name)
        if found is None:
            close = get_close_matches(name, self.names(), n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            known = ", ".join(self.names())
            raise UnknownNameError(f"unknown {self.what} {name!r}, known are {known}{hint}")
        item = found if isinstance(found, self.kind) else self.adapt(found)
        if item is None:
            kind = self.kind.__name__
            raise UsageError(f"{self.what} {name!r}: expected a {kind}, got {found!r}")
        return item
