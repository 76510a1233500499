"""Snapshots, which replace the beginning of a log: one value in pieces, and a pointer to it.

    <prefix>/snapshot            {"number": 3, "since": 812, "pieces": 2, "bytes": 300000,
                                  "crc32": 7, "leader": 41}
    <prefix>/piece/0...3/0...0   the first bytes
    <prefix>/piece/0...3/0...1   the rest

The log continues with batch `since`. A snapshot is written piece by piece beside the present one;
then one transaction changes the pointer and deletes all other pieces. So there is always a whole
snapshot, and never more than two.
"""

from dataclasses import dataclass
from zlib import crc32

from sllmreal.store.batches import numbers_line, parsed_numbers
from sllmreal.store.election import Leadership
from sllmreal.store.errors import JournalGapError
from sllmreal.store.protocol import Store
from sllmreal.store.values import DeleteRange, Get, Put, VersionIs

PIECE_BYTES = 256 << 10  # small: journal entries may wait for the commit of a piece


@dataclass(frozen=True, slots=True)
class Pointer:
    """The pointer to the present snapshot.

    Attributes:
        number: Number of the snapshot, which grows by one with each.
        since: The first batch that is not in it.
        version: Version of the key; 0 if there is no snapshot.
    """

    number: int
    since: int
    num_pieces: int
    num_bytes: int
    checksum: int
    version: int

    @classmethod
    async def read(cls, store: Store, prefix: str) -> "Pointer":
        """Read the pointer. Raises JournalGapError if the key has another content."""
        key = _pointer_key(prefix)
        item = await store.get(key)
        if item is None:
            return cls(0, 0, 0, 0, 0, 0)
        plain = parsed_numbers(key, item.value)
        try:
            return cls(
                plain["number"],
                plain["since"],
                plain["pieces"],
                plain["bytes"],
                plain["crc32"],
                item.version,
            )
        except KeyError as error:
            raise JournalGapError(f"{key} lacks {error}") from error

    def encoded(self, leader: int) -> bytes:
        """Return the key's value; two snapshots never have the same value."""
        return numbers_line(
            number=self.number,
            since=self.since,
            pieces=self.num_pieces,
            bytes=self.num_bytes,
            crc32=self.checksum,
            leader=leader,
        )


async def read_snapshot(store: Store, prefix: str, pointer: Pointer) -> bytes | None:
    """Return the snapshot of a pointer; None if there is none.

    Raises:
        JournalGapError: The snapshot is not whole.
    """
    if pointer.version == 0:
        return None
    pieces: list[bytes] = []
    for place in range(pointer.num_pieces):
        key = _piece_key(prefix, pointer.number, place)
        item = await store.get(key)
        if item is None:
            raise JournalGapError(f"{key} is missing")
        pieces.append(item.value)
    value = b"".join(pieces)
    if len(value) != pointer.num_bytes or crc32(value) != pointer.checksum:
        raise JournalGapError(f"snapshot {pointer.number} of {prefix} is damaged")
    return value


async def write_snapshot(
    leadership: Leadership, prefix: str, before: Pointer, since: int, value: bytes
) -> Pointer:
    """Replace the snapshot `before` by another one.

    Raises:
        JournalGapError: Another process than this leader has replaced it.
        LeaseLostError, OutcomeUnknownError, StoreUnavailableError: See `Leadership.retried`.
    """
    number = before.number + 1
    pieces = [value[first : first + PIECE_BYTES] for first in range(0, len(value), PIECE_BYTES)]
    for place, piece in enumerate(pieces):
        await leadership.retried((), (Put(_piece_key(prefix, number, place), piece),))
    key, checksum = _pointer_key(prefix), crc32(value)
    after = Pointer(number, since, len(pieces), len(value), checksum, before.version)
    moved = Put(key, after.encoded(leadership.fencing))
    # Also pieces of a longer snapshot of this number, left by a leader that died.
    older = DeleteRange(_piece_key(prefix, 0, 0), _piece_key(prefix, number, 0))
    longer = DeleteRange(_piece_key(prefix, number, len(pieces)), _piece_key(prefix, number + 1, 0))
    compare = VersionIs(key, before.version)
    result = await leadership.retried((compare,), (moved, older, longer), (Get(key),))
    version = result.revision
    if not result.succeeded:
        # The answer to an earlier try was lost: only this leader writes this value.
        found = result.found[0]
        if found is None or found.value != moved.value:
            raise JournalGapError(f"{key} was changed by a process other than this leader")
        version = found.version
    return Pointer(number, since, len(pieces), len(value), checksum, version)


def _pointer_key(prefix: str) -> str:
    return f"{prefix}/snapshot"


def _piece_key(prefix: str, number: int, place: int) -> str:
    return f"{prefix}/piece/{number:016d}/{place:08d}"
