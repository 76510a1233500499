"""A set of names from which any few can be looked at in constant time, in a reproducible order."""

from collections.abc import Iterator, Sequence


class IndexedSet:
    """Add, discard, membership and access by position in O(1); no dependence on hash seeds."""

    __slots__ = ("_items", "_positions")

    def __init__(self) -> None:
        self._items: list[str] = []
        self._positions: dict[str, int] = {}

    def add(self, item: str) -> None:
        if item not in self._positions:
            self._positions[item] = len(self._items)
            self._items.append(item)

    def discard(self, item: str) -> None:
        """Remove `item` if it is there; the last one takes its place."""
        position = self._positions.pop(item, None)
        if position is None:
            return
        last = self._items.pop()
        if last != item:
            self._items[position] = last
            self._positions[last] = position

    def window(self, limit: int, offset: int) -> Sequence[str]:
        """At most `limit` items: all of them when they are that few, else a window at `offset`.

        To be read before the set changes.
        """
        items = self._items
        if len(items) <= limit:
            return items
        first = offset % len(items)
        found = items[first : first + limit]
        return found + items[: limit - len(found)]

    def __contains__(self, item: str) -> bool:
        return item in self._positions

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __getitem__(self, position: int) -> str:
        return self._items[position]
