"""A trace at another rate.

rate   Each row is kept with probability f (f < 1), or has floor(f) - 1 or ceil(f) - 1 copies,
       so that f rows stand for one on average. Copies lie uniformly in the gap before their
       row: the movement of the rate over time is kept, as TraceUpscaler does it.
time   Times are divided by f: everything is f times as fast, the day included.
"""

import math
from collections.abc import Iterator

import msgspec
from numpy.random import Generator

from traces.account import Account
from traces.errors import TraceError
from traces.rows import TraceRow


def at_rate(
    rows: Iterator[TraceRow], factor: float, rng: Generator, account: Account
) -> Iterator[TraceRow]:
    """Rows thinned or copied, in order of time; their times start at 0."""
    _check(factor)
    whole, rest = divmod(factor, 1.0)
    previous_s = 0.0
    for row in rows:
        num = int(whole) + int(rng.random() < rest)
        if num == 0:
            account.thinned += 1
            continue
        yield from _copies(row, num - 1, previous_s, rng, account)
        previous_s = row.at_s


def _copies(
    row: TraceRow, num: int, previous_s: float, rng: Generator, account: Account
) -> Iterator[TraceRow]:
    """`num` copies before the row, and the row."""
    done = False
    try:
        gap_s = row.at_s - previous_s
        for offset in sorted(rng.random(num).tolist()):
            account.copied += 1
            yield msgspec.structs.replace(row, at_s=previous_s + offset * gap_s)
        done = True
        yield row
    finally:
        if not done:  # the reader had enough before the row itself came
            account.after_end += 1


def at_speed(rows: Iterator[TraceRow], factor: float) -> Iterator[TraceRow]:
    """Rows with their times divided by `factor`."""
    _check(factor)
    for row in rows:
        yield msgspec.structs.replace(row, at_s=row.at_s / factor)


def _check(factor: float) -> None:
    if not (math.isfinite(factor) and factor > 0):
        raise TraceError(f"a rate can be scaled by a positive factor, not by {factor}")
