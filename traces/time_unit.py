"""Units of the times in trace files.

A stamp that lies between the years 2000 and 2100 if counted in a unit since 1970 has that unit:
the four ranges do not overlap.
"""

from collections.abc import Mapping
from typing import Literal, get_args

TimeUnit = Literal["s", "ms", "us", "ns"]

PER_SECOND: Mapping[TimeUnit, float] = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}

_YEAR_2000_S, _YEAR_2100_S = 946_684_800, 4_102_444_800
_SUFFIXES: Mapping[str, TimeUnit] = {
    **{unit: unit for unit in get_args(TimeUnit)},
    "sec": "s",
    "secs": "s",
    "seconds": "s",
    "msec": "ms",
    "millis": "ms",
    "milliseconds": "ms",
    "usec": "us",
    "micros": "us",
    "microseconds": "us",
    "nanos": "ns",
    "nanoseconds": "ns",
}


def epoch_unit(stamp: float) -> TimeUnit | None:
    """Return the unit of a count since 1970; None if the stamp is none in any unit."""
    for unit, per_second in PER_SECOND.items():
        if _YEAR_2000_S <= stamp / per_second < _YEAR_2100_S:
            return unit
    return None


def unit_in_name(name: str) -> TimeUnit | None:
    """Return the unit at the end of a column's name, as in `arrival_time_ns`; None without one."""
    words = "".join(letter if letter.isalnum() else " " for letter in name.casefold()).split()
    return _SUFFIXES.get(words[-1]) if len(words) > 1 else None


def name_without_unit(name: str) -> str:
    """Return a column's name without the unit at its end."""
    if unit_in_name(name) is None:
        return name
    words = "".join(letter if letter.isalnum() else " " for letter in name.casefold()).split()
    return "_".join(words[:-1])
