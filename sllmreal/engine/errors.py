"""Errors of engines."""

from sllmcore.errors import ClusterError, UsageError


class UnknownSequenceError(UsageError):
    """The engine has no sequence of this request."""


class NoSlotError(ClusterError):
    """All slots are taken."""


class ContextTooLongError(UsageError):
    """Prompt and output do not fit into the model's context."""


class BadTokenError(UsageError):
    """A token is not in the model's vocabulary."""


class BadStateError(UsageError):
    """A KV block or a call does not fit the state of this engine or sequence."""


class EngineLostError(ClusterError):
    """The engine's process has ended or does not answer."""
