"""The checkpoints of a store by name, and the processes that use them. Thread-safe, without I/O."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from sllmcore.errors import UsageError
from sllmreal.loader.store_messages import StoredCheckpoint

_MIN_IDENTITY_DIGITS = 8


@dataclass(slots=True)
class _Entry:
    name: str
    path: str
    size_bytes: int
    used_by: list[int] = field(default_factory=list)  # a process is listed once per lease


class StoreCatalogue:
    """Entries by checkpoint identity. An entry is dropped when the checkpoint is not resident."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._lock = threading.Lock()

    @contextmanager
    def used(self, entry: StoredCheckpoint, pid: int) -> Iterator[None]:
        """List process `pid` as a user of the checkpoint until the end.

        The checkpoint gets the name and path of `entry`, whatever they were before.
        """
        with self._lock:
            fresh = _Entry(entry.name, entry.path, entry.size_bytes)
            known = self._entries.setdefault(entry.identity, fresh)
            known.name, known.path = entry.name, entry.path
            known.used_by.append(pid)
        try:
            yield
        finally:
            with self._lock:
                known.used_by.remove(pid)

    def checkpoints(self, resident_bytes: Mapping[str, int]) -> tuple[StoredCheckpoint, ...]:
        """Return the checkpoints that are resident or used; `resident_bytes` is by identity."""
        with self._lock:
            for identity, entry in list(self._entries.items()):
                if identity not in resident_bytes and not entry.used_by:
                    del self._entries[identity]
            return tuple(
                StoredCheckpoint(
                    name=entry.name,
                    path=entry.path,
                    identity=identity,
                    size_bytes=entry.size_bytes,
                    resident_bytes=resident_bytes.get(identity, 0),
                    used_by=tuple(sorted(set(entry.used_by))),
                )
                for identity, entry in self._entries.items()
            )


def found_checkpoint(checkpoints: tuple[StoredCheckpoint, ...], wanted: str) -> StoredCheckpoint:
    """Return the checkpoint with that name, path or identity, of which 8 digits suffice.

    Raises UsageError unless exactly one matches.
    """
    found = [one for one in checkpoints if wanted in (one.name, one.path)]
    if not found and len(wanted) >= _MIN_IDENTITY_DIGITS:
        found = [one for one in checkpoints if one.identity.startswith(wanted)]
    if not found:
        names = ", ".join(sorted(one.name for one in checkpoints)) or "none"
        raise UsageError(f"no checkpoint {wanted[:200]!r} in the store; it has: {names}")
    if len(found) > 1:
        choices = ", ".join(f"{one.identity[:12]} ({one.path})" for one in found)
        raise UsageError(
            f"{len(found)} checkpoints match {wanted[:200]!r}: give the identity, one of {choices}"
        )
    return found[0]
