"""A load queue: the transfers on one I/O path of a server and the expected end of the last."""

from math import fsum


class LoadQueue:
    """Transfers one after another, in the order in which they were added.

    `wait_s` is the `q` of the loading-time estimate. With `sequential` false, transfers share the
    path and `q` is 0: estimates then ignore the sharing and are too short.
    """

    __slots__ = ("_ends_at_s", "_sequential", "_transfer_s")

    def __init__(self, sequential: bool = True) -> None:
        self._sequential = sequential
        self._transfer_s: dict[str, float] = {}  # by instance id, in order
        self._ends_at_s = 0.0

    def wait_s(self, now_s: float) -> float:
        """Return the time that a transfer added now would wait before it begins."""
        if not self._transfer_s or not self._sequential:
            return 0.0
        return max(0.0, self._ends_at_s - now_s)

    @property
    def last(self) -> str | None:
        """Id of the instance that a further transfer must wait for; None: it may begin at once."""
        if not self._sequential or not self._transfer_s:
            return None
        return next(reversed(self._transfer_s))

    def add(self, instance_id: str, transfer_s: float, now_s: float) -> None:
        """Append a transfer of the expected duration `transfer_s`."""
        self._ends_at_s = now_s + self.wait_s(now_s) + transfer_s
        self._transfer_s[instance_id] = transfer_s

    def remove(self, instance_id: str, now_s: float) -> None:
        """Remove a transfer that finished or was cancelled, and correct the expected end."""
        if instance_id not in self._transfer_s:
            return
        first = next(iter(self._transfer_s)) == instance_id
        transfer_s = self._transfer_s.pop(instance_id)
        if first:
            self._ends_at_s = now_s + fsum(self._transfer_s.values())
        else:
            self._ends_at_s -= transfer_s
