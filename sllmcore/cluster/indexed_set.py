"""A set of names with access by position, in an order that does not depend on hash seeds."""

from collections.abc import Iterator, Sequence


class IndexedSet:
    """A set with add, discard, membership test and access by position in O(1)."""

    __slots__ = ("_items", "_positions")

    def __init__(self) -> None:
        self._items: list[str] = []
        self._positions: dict[str, int] = {}

    def add(self, item: str) -> None:
        """Add `item` at the end if it is missing."""
        if item not in self._positions:
            self._positions[item] = len(self._items)
            self._items.append(item)

    def discard(self, item: str) -> None:
        """Remove `item` if it is present. The last item takes its position."""
        position = self._positions.pop(item, None)
        if position is None:
            return
        last = self._items.pop()
        if last != item:
            self._items[position] = last
            self._positions[last] = position

    def window(self, limit: int, offset: int) -> Sequence[str]:
        """Return at most `limit` items: all, or a window that starts at `offset` modulo the size.

        The result may share memory with the set: read it before the set changes.
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
