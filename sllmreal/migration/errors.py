"""Errors of live migrations, apart from those of the engines."""

from sllmcore.errors import ClusterError


class MigrationError(ClusterError):
    """Root of this package's errors: the migration ends, the workload stays at its source."""


class FrameError(MigrationError):
    """Bytes that are not a frame: malformed, too long for their kind, or cut short."""


class AuthenticationError(MigrationError):
    """A frame without a proof that the holder of the migration's key sent it, or a repeated one."""


class WrongModelError(MigrationError):
    """Source and destination have different weights, or different layouts of their KV caches."""


class BadDeltaError(MigrationError):
    """A delta that does not follow the destination's position."""


class WrongStateError(MigrationError):
    """The stream cannot migrate: it has finished, or is not committed yet."""
