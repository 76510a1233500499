"""Errors of reading and writing checkpoints."""

from sllmcore.errors import ClusterError, UsageError


class ClosedError(UsageError):
    """A pool, reader, storage or file is used after it was closed."""


class BadCheckpointError(UsageError):
    """A file breaks a rule of its format: a retry or another server does not help."""


class CorruptCheckpointError(ClusterError):
    """Bytes differ from their recorded hash: another copy may be right."""


class StorageError(ClusterError):
    """Reading or writing failed: a bad disk, a full file system, a file that changed meanwhile."""
