"""What goes wrong between the processes of a cluster."""

from sllmcore.errors import ClusterError


class ChannelClosedError(ClusterError):
    """The other end is gone, or said something that is no message."""


class LinkError(ClusterError):
    """The other end of a blocking connection is gone, too slow, or was never there."""
