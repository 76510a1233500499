"""What can go wrong while an inference moves, apart from the engines themselves."""

from sllmcore.errors import ClusterError


class MigrationError(ClusterError):
    """Root of this package's errors: the move ends, the inference goes on where it was."""


class FrameError(MigrationError):
    """Bytes that are no frame: malformed, too long for their kind, or cut short."""


class AuthenticationError(MigrationError):
    """A frame that the holder of this move's key did not send, or sent before."""


class WrongModelError(MigrationError):
    """The two ends hold different weights, or lay out their caches differently."""


class BadDeltaError(MigrationError):
    """A delta that does not continue what the destination has."""


class WrongStateError(MigrationError):
    """The stream is not in a state to move: finished, or not committed yet."""
