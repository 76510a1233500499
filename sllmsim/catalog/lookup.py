"""Lookup by id whose failure says what the caller may have meant."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import TypeVar

from sllmcore.errors import UsageError

Entry = TypeVar("Entry")


def entry_named(kind: str, name: str, entries: Mapping[str, Entry]) -> Entry:
    """The entry of that id; UsageError with the nearest ids, or with all where none is near."""
    if name in entries:
        return entries[name]
    near = get_close_matches(name.lower(), entries, n=5, cutoff=0.5)
    if near:
        raise UsageError(f"unknown {kind} {name!r}; did you mean {', '.join(near)}?")
    raise UsageError(f"unknown {kind} {name!r}; known: {', '.join(sorted(entries))}")
