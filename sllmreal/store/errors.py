"""Errors of stores."""

from sllmcore.errors import ClusterError, UsageError


class StoreUnavailableError(ClusterError):
    """The store does not answer, or is closed. The call has not taken effect and never will."""


class OutcomeUnknownError(ClusterError):
    """The answer to a write was lost: the write may have taken effect, or may do so later.

    Read the keys; repeat the write only under a compare that its success makes false.
    """


class ConflictError(ClusterError):
    """The key is at another version than was given: nothing was written.

    Attributes:
        key: The key.
        found: The version of the key in the store; 0 if the key is absent.
    """

    def __init__(self, key: str, expected: int, found: int) -> None:
        super().__init__(f"{key} is at version {found}, not {expected}")
        self.key = key
        self.found = found


class LeaseLostError(ClusterError):
    """The lease has expired or was revoked, or the leadership that it held has ended."""


class CompactedError(ClusterError):
    """The requested history is compacted: read the present by `range`, and watch from there.

    Attributes:
        oldest: The first revision that can still be watched.
    """

    def __init__(self, asked: int, oldest: int) -> None:
        super().__init__(f"revision {asked} is compacted: history begins at {oldest}")
        self.oldest = oldest


class StoreInUseError(ClusterError):
    """Another store, in this process or another, has the file open.

    Attributes:
        owner: Id of the process that has it open.
    """

    def __init__(self, path: object, owner: str) -> None:
        super().__init__(f"{path} is held by process {owner}")
        self.owner = owner


class StoreFormatError(UsageError):
    """The file is not a store of this version."""


class JournalGapError(ClusterError):
    """A batch of the log is missing or out of order: the log must not be replayed."""
