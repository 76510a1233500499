"""What can stop a load, besides a bad checkpoint or a failing disk."""

from sllmcore.errors import ClusterError, UsageError


class LoadCancelledError(ClusterError):
    """The caller cancelled the load: nothing of it stays behind."""


class PoolExhaustedError(ClusterError):
    """The pool has too few free chunks: evict something first."""


class CheckpointInUseError(UsageError):
    """Tensors of the checkpoint still live in some process: it cannot be evicted."""


class DaemonError(ClusterError):
    """The pool's daemon is away, or answered with something that is no answer."""


class RemoteError(ClusterError):
    """A storage service failed, or served something other than what was asked for."""


class RemoteStatusError(RemoteError):
    """The remote storage answered with a status that says no: of access, or of existence."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status
