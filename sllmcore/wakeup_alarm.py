"""The timer with which a driver wakes its controller: when to set it, and whether to send `WakeUp`.

A driver has one timer. It is set earlier when the controller asks for an earlier wake-up. A timer
that fires too early, because its cause has gone, is set again.
"""

from math import inf
from typing import Protocol


class Sleeper(Protocol):
    """The part of `Controller` that asks for wake-ups."""

    @property
    def next_wakeup_s(self) -> float | None:
        """Instant of the next wake-up; None if none is wanted."""
        ...

    @property
    def wakeup_not_before_s(self) -> float:
        """An O(1) lower bound on `next_wakeup_s`."""
        ...


class WakeupAlarm:
    """The instant for which a driver's timer is set."""

    __slots__ = ("_at_s",)

    def __init__(self) -> None:
        self._at_s = inf

    def set_again(self, controller: Sleeper) -> float | None:
        """Return the instant for which to set the timer now; None: the timer stays as it is.

        To be called after each event. Costs one comparison when the timer is early enough.
        """
        if self._at_s <= controller.wakeup_not_before_s:
            return None
        at_s = controller.next_wakeup_s
        if at_s is None or self._at_s <= at_s:
            return None
        self._at_s = at_s
        return at_s

    def clear(self) -> None:
        """Note that no timer is set."""
        self._at_s = inf

    def fired(self, controller: Sleeper, now_s: float) -> bool:
        """Note that the timer fired. Return True if the controller is to get `WakeUp` now.

        If not, call `set_again`.
        """
        self._at_s = inf
        at_s = controller.next_wakeup_s
        return at_s is not None and at_s <= now_s
