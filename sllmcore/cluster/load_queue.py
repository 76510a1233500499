"""The loads that share one I/O path of a server, and when the last of them should be through."""

from math import fsum


class LoadQueue:
    """Transfers one after another, in the order they were added: `q` of the load estimate.

    Without the sequential discipline transfers share the path; `q` is 0 then, and the estimate is
    as wrong as that sharing makes it.
    """

    __slots__ = ("_ends_at_s", "_sequential", "_transfer_s")

    def __init__(self, sequential: bool = True) -> None:
        self._sequential = sequential
        self._transfer_s: dict[str, float] = {}  # by instance id, in order
        self._ends_at_s = 0.0

    def wait_s(self, now_s: float) -> float:
        """How long a load added now would wait for its turn."""
        if not self._transfer_s or not self._sequential:
            return 0.0
        return max(0.0, self._ends_at_s - now_s)

    @property
    def last(self) -> str | None:
        """The instance whose transfer a further load has to follow."""
        if not self._sequential or not self._transfer_s:
            return None
        return next(reversed(self._transfer_s))

    def add(self, instance_id: str, transfer_s: float, now_s: float) -> None:
        self._ends_at_s = now_s + self.wait_s(now_s) + transfer_s
        self._transfer_s[instance_id] = transfer_s

    def remove(self, instance_id: str, now_s: float) -> None:
        """A transfer ended, early, late or never begun; what is behind it moves accordingly."""
        if instance_id not in self._transfer_s:
            return
        first = next(iter(self._transfer_s)) == instance_id
        transfer_s = self._transfer_s.pop(instance_id)
        if first:
            self._ends_at_s = now_s + fsum(self._transfer_s.values())
        else:
            self._ends_at_s -= transfer_s
