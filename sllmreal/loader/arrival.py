"""Telling which tensors are complete as chunks land in any order."""

from collections.abc import Callable

from sllmreal.loader.plan import LoadPlan


class Arrivals:
    """Counts down the chunks that each tensor of a plan awaits, and reports it at zero."""

    def __init__(self, plan: LoadPlan, complete: Callable[[int], None]) -> None:
        self._complete = complete
        self._missing = [len(need) if need is not None else None for need in plan.needs]
        self._waiting: list[list[int]] = [[] for _ in plan.reads]
        for tensor, need in enumerate(plan.needs):
            for position in need or ():
                self._waiting[position].append(tensor)

    def begin(self) -> None:
        """Report the tensors that await nothing: resident already, or without elements."""
        for tensor, missing in enumerate(self._missing):
            if missing == 0:
                self._complete(tensor)

    def land(self, position: int) -> None:
        """A read of the plan is in place and verified."""
        for tensor in self._waiting[position]:
            missing = self._missing[tensor]
            assert missing, "a chunk lands once"
            self._missing[tensor] = missing - 1
            if missing == 1:
                self._complete(tensor)
