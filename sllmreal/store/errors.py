"""What can go wrong between a caller and the store."""

from sllmcore.errors import ClusterError, UsageError


class StoreUnavailableError(ClusterError):
    """The store does not answer, or is closed: this call has changed nothing and never will."""


class OutcomeUnknownError(ClusterError):
    """The write was sent and its answer lost: it may be in force, or come into force yet.

    Read what it would have written; repeat it only under a compare that its success falsifies.
    """


class ConflictError(ClusterError):
    """The key is at another version than the caller said: nothing was written.

    Attributes:
        key: Which.
        found: Its version in the store, 0 when it is absent.
    """

    def __init__(self, key: str, expected: int, found: int) -> None:
        super().__init__(f"{key} is at version {found}, not {expected}")
        self.key = key
        self.found = found


class LeaseLostError(ClusterError):
    """The lease has expired or was revoked, or the leadership held by it is over."""


class CompactedError(ClusterError):
    """The history asked for is gone: read the present with `range`, watch from there.

    Attributes:
        oldest: The first revision that can still be watched.
    """

    def __init__(self, asked: int, oldest: int) -> None:
        super().__init__(f"revision {asked} is forgotten, history begins at {oldest}")
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
    """The log lacks a batch, or has one out of order: it must not be replayed."""
