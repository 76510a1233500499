"""What goes wrong between the processes of a cluster."""

from sllmcore.errors import ClusterError


class ChannelClosedError(ClusterError):
    """The other end is gone, or said something that is no message."""
