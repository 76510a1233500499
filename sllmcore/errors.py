"""Errors that the toolkit raises on purpose. The class names the party at fault."""


class SllmError(Exception):
    """Root of the toolkit's errors."""


class UsageError(SllmError, ValueError):
    """An error of the caller: a bad argument, config or file. Commands exit with code 2."""


class ClusterError(SllmError):
    """A failure of a worker, disk or network: the same call may succeed elsewhere or later."""


class ControlError(SllmError):
    """A violation of the contract between driver and controller: a bug, independent of input."""
