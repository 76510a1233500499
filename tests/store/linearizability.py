"""Decides whether a history of calls on one register could have come from an atomic register.

Wing and Gong's search ("Testing and Verifying Concurrent Objects", 1993) with Lowe's memory of
configurations already tried: repeatedly take a call that began before any remaining call returned
and that has an answer which fits the register's value. A call with an unknown outcome may take
effect at any time after it began, or never.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class Outcome(Enum):
    """The outcome of a write, as its caller knows it."""

    DONE = "done"
    REFUSED = "refused"  # the compare did not hold
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Read:
    """A call that found `value`."""

    began_at: float
    ended_at: float
    value: int


@dataclass(frozen=True, slots=True)
class Swap:
    """A call to replace `expected` by `value`."""

    began_at: float
    ended_at: float
    expected: int
    value: int
    outcome: Outcome


Call = Read | Swap


def linearizable(calls: Sequence[Call], initial: int) -> bool:
    """True if some order of the calls, each within its time, explains all the answers."""
    ordered = sorted(calls, key=lambda call: call.began_at)
    required = sum(1 << number for number, call in enumerate(ordered) if not _optional(call))
    tried: set[tuple[int, int]] = set()
    open_configurations = [(0, initial)]
    while open_configurations:
        taken, value = open_configurations.pop()
        if taken & required == required:
            return True
        if (taken, value) in tried:
            continue
        tried.add((taken, value))
        for number in _next(ordered, taken):
            after = _effect(ordered[number], value)
            if after is not None:
                open_configurations.append((taken | 1 << number, after))
    return False


def _optional(call: Call) -> bool:
    return isinstance(call, Swap) and call.outcome is Outcome.UNKNOWN


def _next(ordered: Sequence[Call], taken: int) -> list[int]:
    """Return the calls not taken that began before any call not taken returned."""
    candidates = []
    earliest_end = float("inf")
    for number, call in enumerate(ordered):
        if taken >> number & 1:
            continue
        if call.began_at > earliest_end:
            break
        candidates.append(number)
        if not _optional(call):
            earliest_end = min(earliest_end, call.ended_at)
    return candidates


def _effect(call: Call, value: int) -> int | None:
    """Return the register's value after the call; None if the call cannot have this answer."""
    if isinstance(call, Read):
        return value if call.value == value else None
    fits = call.expected == value
    if call.outcome is Outcome.REFUSED:
        return None if fits else value
    return call.value if fits else None
