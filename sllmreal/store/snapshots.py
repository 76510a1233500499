"""What stands for the beginning of a log: one value, in pieces, and a pointer that says which.

    <prefix>/snapshot            {"number": 3, "since": 812, "pieces": 2, "bytes": 300000,
                                  "crc32": 7, "leader": 41}
    <prefix>/piece/0...3/0...0   the first bytes
    <prefix>/piece/0...3/0...1   the rest

The log goes on with batch `since`. A snapshot is written piece by piece beside the one that counts,
then one transaction moves the pointer and deletes the pieces of others: there is always a whole
one, and never more than two.
"""

from dataclasses import dataclass
from zlib import crc32

from sllmreal.store.batches import numbers_line, parsed_numbers
from sllmreal.store.election import Leadership
from sllmreal.store.errors import JournalGapError
from sllmreal.store.protocol import Store
from sllmreal.store.values import DeleteRange, Get, Put, VersionIs

PIECE_BYTES = 256 << 10  # of a commit with journal entries in it, so that these need not wait long


@dataclass(frozen=True, slots=True)
class Pointer:
    """Which snapshot counts.

    Attributes:
        number: Grows by one with each snapshot.
        since: The first batch that is not in it.
        version: Of the key, 0 when there is no snapshot.
    """

    number: int
    since: int
    num_pieces: int
    num_bytes: int
    checksum: int
    version: int

    @classmethod
    async def read(cls, store: Store, prefix: str) -> "Pointer":
        """As it stands. JournalGapError if something else is there."""
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
        """As the key's value; no two snapshots look alike."""
        return numbers_line(
            number=self.number,
            since=self.since,
            pieces=self.num_pieces,
            bytes=self.num_bytes,
            crc32=self.checksum,
            leader=leader,
        )


async def read_snapshot(store: Store, prefix: str, pointer: Pointer) -> bytes | None:
    """What the pointer points to; None where there is no snapshot.

    Raises:
        JournalGapError: It is not whole.
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
        raise JournalGapError(f"snapshot {pointer.number} of {prefix} is not what was written")
    return value


async def write_snapshot(
    leadership: Leadership, prefix: str, before: Pointer, since: int, value: bytes
) -> Pointer:
    """Put a snapshot in the place of the one `before`.

    Raises:
        JournalGapError: Another than this leader has put one there.
        LeaseLostError, OutcomeUnknownError, StoreUnavailableError: As `Leadership.insisted`.
    """
    number = before.number + 1
    pieces = [value[first : first + PIECE_BYTES] for first in range(0, len(value), PIECE_BYTES)]
    for place, piece in enumerate(pieces):
        await leadership.insisted((), (Put(_piece_key(prefix, number, place), piece),))
    key, checksum = _pointer_key(prefix), crc32(value)
    after = Pointer(number, since, len(pieces), len(value), checksum, before.version)
    moved = Put(key, after.encoded(leadership.fencing))
    # Also pieces that another leader left when it died over a longer snapshot of this number.
    older = DeleteRange(_piece_key(prefix, 0, 0), _piece_key(prefix, number, 0))
    longer = DeleteRange(_piece_key(prefix, number, len(pieces)), _piece_key(prefix, number + 1, 0))
    compare = VersionIs(key, before.version)
    result = await leadership.insisted((compare,), (moved, older, longer), (Get(key),))
    version = result.revision
    if not result.succeeded:
        # An answer was lost: this leader alone writes this value, so it was the first try.
        found = result.found[0]
        if found is None or found.value != moved.value:
            raise JournalGapError(f"{key} was changed by another than leader {moved.value!r}")
        version = found.version
    return Pointer(number, since, len(pieces), len(value), checksum, version)


def _pointer_key(prefix: str) -> str:
    return f"{prefix}/snapshot"


def _piece_key(prefix: str, number: int, place: int) -> str:
    return f"{prefix}/piece/{number:016d}/{place:08d}"
