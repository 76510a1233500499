"""Wall-clock stamps of the Azure LLM traces, as seconds since the first stamp.

`2023-11-16 18:17:03.9799600` (2023: no zone, 7 decimals), `2024-05-10 00:00:00.009930+00:00` and
`2024-05-10 00:00:01+00:00` (2024: UTC, 6 decimals or none) may be mixed in a file, as may other
offsets (`+02:00`, `+0200`, `+02`). A stamp without a zone is UTC. Whole seconds and fractions are
summed separately, because a double of the seconds since 1970 cannot hold seven decimals.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import islice

_PREFIX = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d", re.ASCII)
_TAIL = re.compile(r"(\.\d{1,9})?(Z|[+-]\d\d(?::?\d\d)?)?", re.ASCII)
_OFFSET = re.compile(r"[+-]\d\d:?(\d\d)?$", re.ASCII)
_EXPECTED = "a time like 2024-05-10 00:00:00.009930+00:00"


class TimestampClock:
    """Converts stamps to seconds since its first stamp, over all files of a trace.

    Args:
        per_second: Units of the numeric times of the trace in a second.
    """

    def __init__(self, per_second: float = 1.0) -> None:
        self.per_second = per_second
        self._prefix = ""  # `2023-11-16 18:17:03`, shared by the rows of one second
        self._prefix_s = 0
        self._whole_s = 0  # from the zero to the prefix
        self._zero_s: int | None = None
        self._zero_fraction_s = 0.0
        self._has_offset = False
        self._has_naive = False

    @property
    def mixes_zones(self) -> bool:
        """True if some stamps had an offset from UTC and others had no zone at all."""
        return self._has_offset and self._has_naive

    def seconds(self, stamp: str) -> float:
        """Return a stamp as seconds since the first one.

        Raises:
            ValueError: The stamp has none of the three forms; the text is the expected form.
        """
        prefix, tail = stamp[:19], stamp[19:]
        if prefix != self._prefix:
            self._prefix_s = _epoch_s(prefix)
            self._prefix = prefix
            self._whole_s = self._prefix_s - (self._zero_s or 0)
        if tail.endswith("+00:00"):
            tail = tail[:-6]
        elif tail[-1:] != "Z" and not _OFFSET.search(tail):
            self._has_naive = True
        whole_s = self._prefix_s
        if tail and not (tail[0] == "." and tail[1:].isdigit()):
            match = _TAIL.fullmatch(tail)
            if match is None:
                raise ValueError(_EXPECTED)
            offset_s = _offset_s(match[2])
            self._has_offset = self._has_offset or offset_s != 0
            whole_s -= offset_s
            tail = match[1]
        fraction_s = float(tail) if tail else 0.0
        if self._zero_s is None:
            self._zero_s, self._zero_fraction_s = whole_s, fraction_s
            self._whole_s = self._prefix_s - whole_s
        return (whole_s - self._zero_s) + (fraction_s - self._zero_fraction_s)

    def seconds_column(self, stamps: Sequence[str]) -> list[float]:
        """Return many stamps as seconds; three times as fast where they share their second."""
        times = [self.seconds(stamps[0])]
        for stamp in islice(stamps, 1, None):
            tail = stamp[19:-6] if stamp.endswith("+00:00") else stamp[19:]
            if stamp[:19] == self._prefix and tail[:1] == "." and tail[1:].isdigit():
                times.append(self._whole_s + (float(tail) - self._zero_fraction_s))
            else:
                times.append(self.seconds(stamp))
        return times


def _epoch_s(prefix: str) -> int:
    try:
        if _PREFIX.fullmatch(prefix) is None:
            raise ValueError
        return int(datetime.fromisoformat(prefix).replace(tzinfo=UTC).timestamp())
    except ValueError:
        raise ValueError(_EXPECTED) from None


def _offset_s(zone: str | None) -> int:
    if zone is None or zone == "Z":
        return 0
    sign = -1 if zone[0] == "-" else 1
    return sign * (int(zone[1:3]) * 3600 + int(zone[3:].lstrip(":") or 0) * 60)
