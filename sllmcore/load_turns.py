"""The order of transfers on the I/O paths of a server: each load follows the one named in `after`.

A load keeps its place in the queue until its bytes have moved or it is cancelled. Loads that
wait behind a cancelled load wait for the load ahead of it instead. Used by both drivers.
"""

from sllmcore.errors import ControlError


class LoadTurns:
    """Queues of loads, by instance id. Several loads may follow the same one."""

    __slots__ = ("_ahead", "_behind")

    def __init__(self) -> None:
        self._ahead: dict[str, str | None] = {}  # None: the load's turn has come
        self._behind: dict[str, list[str]] = {}  # loads that directly follow a load

    def join(self, instance_id: str, after: str | None) -> bool:
        """Queue a load behind `after`. Return True if its turn has come at once.

        The turn has come if `after` is None or has left the queue.

        Raises:
            ControlError: The load is queued already.
        """
        if instance_id in self._ahead:
            raise ControlError(f"{instance_id} is queued for its transfer already")
        ahead = after if after in self._ahead else None
        self._ahead[instance_id] = ahead
        if ahead is None:
            return True
        self._behind.setdefault(ahead, []).append(instance_id)
        return False

    def has_come(self, instance_id: str) -> bool:
        """Return True if it is the turn of a load that is queued."""
        return self._ahead[instance_id] is None

    def leave(self, instance_id: str) -> list[str]:
        """Take a load out of its queue. Return the loads that have their turn now.

        A load that is not queued is ignored, so that a load may leave twice.
        """
        if instance_id not in self._ahead:
            return []
        ahead = self._ahead.pop(instance_id)
        behind = self._behind.pop(instance_id, [])
        for follower in behind:
            self._ahead[follower] = ahead
        if ahead is None:
            return behind
        siblings = self._behind[ahead]
        siblings.remove(instance_id)
        siblings += behind
        return []
