"""Rows in order of time: small steps back are sorted, larger ones are an error.

Times in public traces go back by microseconds (starts computed as end - duration) up to seconds
(stamps of several front ends). A row may be up to `tolerance_s` earlier than the latest row before
it. Rows of the same time keep the order of the file.
"""

import bisect
import math
from collections.abc import Iterator
from operator import attrgetter

import numpy as np

from traces.errors import TraceError
from traces.rows import RowBatch, TraceRow
from traces.text_source import TextSource

DEFAULT_TOLERANCE_S = 10.0

_AT_S = attrgetter("at_s")


class TimeOrder:
    """A buffer that sorts rows within `tolerance_s`, over all files of a trace.

    Raises:
        TraceError: `tolerance_s` is negative.
    """

    def __init__(self, tolerance_s: float = DEFAULT_TOLERANCE_S) -> None:
        if not tolerance_s >= 0:
            raise TraceError(f"tolerance_s must be 0 or more, got {tolerance_s}")
        self._tolerance_s = tolerance_s
        self._held: list[TraceRow] = []
        self._latest_s = -math.inf

    def ordered(self, batches: Iterator[RowBatch], source: TextSource) -> Iterator[TraceRow]:
        """Yield the rows of a file in order; keep those of the last `tolerance_s` for `rest`.

        Raises:
            TraceError: A row is more than `tolerance_s` too early.
        """
        for batch in batches:
            if batch.rows:
                self._take(batch, source)
                yield from self._release(self._latest_s - self._tolerance_s)

    def rest(self) -> Iterator[TraceRow]:
        """Yield the rows that are still held after the last file."""
        yield from self._release(self._latest_s)

    def _take(self, batch: RowBatch, source: TextSource) -> None:
        times = np.fromiter(map(_AT_S, batch.rows), np.float64, len(batch.rows))
        latest = np.maximum(np.maximum.accumulate(times), self._latest_s)
        late = np.flatnonzero(times < latest - self._tolerance_s)
        if len(late):
            place = int(late[0])
            raise self._too_late(
                float(times[place]), float(latest[place]), batch.line_numbers[place], source
            )
        self._held += batch.rows
        self._held.sort(key=_AT_S)
        self._latest_s = float(latest[-1])

    def _release(self, until_s: float) -> list[TraceRow]:
        cut = bisect.bisect_right(self._held, until_s, key=_AT_S)
        ready, self._held = self._held[:cut], self._held[cut:]
        return ready

    def _too_late(
        self, at_s: float, latest_s: float, line_number: int, source: TextSource
    ) -> TraceError:
        return TraceError(
            f"time goes back by {latest_s - at_s:.6f} s, from {latest_s:.6f} s to {at_s:.6f} s, "
            f"more than the tolerance of {self._tolerance_s:g} s "
            "(raise tolerance_s, or sort the file)",
            source.path,
            line_number,
        )
