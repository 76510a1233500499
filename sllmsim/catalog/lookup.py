"""Lookup by id, with suggestions for an unknown id."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import TypeVar

from sllmcore.errors import UsageError

Entry = TypeVar("Entry")


def entry_named(kind: str, name: str, entries: Mapping[str, Entry]) -> Entry:
    """Return an entry by its id.

    Raises:
        UsageError: There is no such entry; the message lists similar ids, or all.
    """
    if name in entries:
        return entries[name]
    near = get_close_matches(name.lower(), entries, n=5, cutoff=0.5)
    if near:
        raise UsageError(f"unknown {kind} {name!r}; did you mean {', '.join(near)}?")
    raise UsageError(f"unknown {kind} {name!r}; known: {', '.join(sorted(entries))}")
