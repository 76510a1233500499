"""Errors of connections between the processes of a cluster."""

from sllmcore.errors import ClusterError


class ChannelClosedError(ClusterError):
    """The other end is gone, or broke the protocol."""


class LinkError(ClusterError):
    """The other end of a blocking connection is gone, too slow, or unreachable."""
