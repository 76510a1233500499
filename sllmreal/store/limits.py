"""Limits on the arguments of every store."""

import re

from sllmcore.errors import UsageError

MAX_KEY_CHARS = 512
MAX_VALUE_BYTES = 1 << 20
MAX_OPERATIONS = 128  # etcd's --max-txn-ops, of compares and of each branch
MAX_TXN_BYTES = 5 << 18  # keys and values; with framing they stay below etcd's --max-request-bytes
MAX_TTL_S = 86_400.0

BEHIND_ALL_KEYS = "\x7f"  # prefix + this sorts after every key with the prefix

_KEY = re.compile(r"[A-Za-z0-9._/-]*", re.ASCII)


def checked_prefix(prefix: str) -> str:
    """Return the prefix; the empty one is of every key. Raises UsageError if no key has it."""
    if len(prefix) > MAX_KEY_CHARS or not _KEY.fullmatch(prefix):
        raise UsageError(
            f"a key has at most {MAX_KEY_CHARS} of A-Z a-z 0-9 . _ / -, got {prefix[:80]!r}"
        )
    return prefix


def checked_key(key: str) -> str:
    """Return the key. Raises UsageError if it is none."""
    if not key:
        raise UsageError("a key has at least one character")
    return checked_prefix(key)


def check_page(after: str | None, limit: int | None) -> None:
    """Raise UsageError unless a range can begin after `after` and have `limit` items."""
    if after is not None:
        checked_key(after)
    if limit is not None and limit < 1:
        raise UsageError(f"a range has a limit of at least 1, got {limit}")


def check_ttl(ttl_s: float) -> None:
    """Raise UsageError unless a lease can have this TTL."""
    if not 0 < ttl_s <= MAX_TTL_S:
        raise UsageError(f"a lease's TTL is above 0 and at most {MAX_TTL_S:.0f} s, got {ttl_s}")


def check_watch(prefix: str, from_revision: int) -> None:
    """Raise UsageError unless a watch can begin there."""
    checked_prefix(prefix)
    if from_revision < 1:
        raise UsageError(f"revisions begin at 1, got {from_revision}")


def check_compaction(revision: int, newest: int) -> None:
    """Raise UsageError unless the history can be compacted up to `revision`."""
    if not 1 <= revision <= newest:
        raise UsageError(f"history has revisions 1 to {newest}: cannot compact up to {revision}")
