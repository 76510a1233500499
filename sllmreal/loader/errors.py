"""Errors of a load, besides a bad checkpoint or a failing disk."""

from sllmcore.errors import ClusterError, UsageError


class LoadCancelledError(ClusterError):
    """The caller cancelled the load; its memory is free again."""


class PoolExhaustedError(ClusterError):
    """The pool has too few free chunks: evict a checkpoint first."""


class CheckpointInUseError(UsageError):
    """The checkpoint cannot be evicted: a process uses its tensors."""


class CheckpointStoreError(ClusterError):
    """The checkpoint store does not run, or closed the connection, or sent a malformed answer."""


class RemoteError(ClusterError):
    """A storage service failed, or sent other bytes than requested."""


class RemoteStatusError(RemoteError):
    """The remote storage answered with an error status: access denied, or no such object."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status
