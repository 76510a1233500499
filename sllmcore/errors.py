"""Every error the toolkit raises on purpose: one root, and whose mistake it is."""


class SllmError(Exception):
    """Root of the toolkit's errors."""


class UsageError(SllmError, ValueError):
    """The caller is wrong: a bad argument, config or file. Commands exit with code 2."""


class ClusterError(SllmError):
    """A worker, disk or network is wrong: the same call may succeed elsewhere or later."""


class ControlError(SllmError):
    """A driver broke the contract of events and commands: a bug, never a matter of input."""
