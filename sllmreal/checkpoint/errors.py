"""What can be wrong with a checkpoint, and whose mistake it is."""

from sllmcore.errors import ClusterError, UsageError


class BadCheckpointError(UsageError):
    """A file breaks a rule of its format: no retry and no other server will help."""


class CorruptCheckpointError(ClusterError):
    """Bytes differ from the hash recorded for them: another copy may be sound."""


class StorageError(ClusterError):
    """Reading or writing failed: a disk, a full file system, a file that changed underneath."""
