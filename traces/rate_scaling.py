"""A trace at `f` times its rate.

rate   f < 1: each row is kept with probability f. f > 1: each row gets floor(f) - 1 or
       ceil(f) - 1 copies, f - 1 on average, at uniform times in the gap before the row. The
       variation of the rate over time stays as it was (TraceUpscaler's method).
time   All times are divided by f; a day of the trace takes 1/f days.
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
    """Yield rows, thinned or copied, in order of time; times of `rows` start at 0."""
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
    """Yield `num` copies before the row, and the row."""
    done = False
    try:
        gap_s = row.at_s - previous_s
        for offset in sorted(rng.random(num).tolist()):
            account.copied += 1
            yield msgspec.structs.replace(row, at_s=previous_s + offset * gap_s)
        done = True
        yield row
    finally:
        if not done:  # the reader stopped before it took the row itself
            account.after_end += 1


def at_speed(rows: Iterator[TraceRow], factor: float) -> Iterator[TraceRow]:
    """Yield rows with their times divided by `factor`."""
    _check(factor)
    for row in rows:
        yield msgspec.structs.replace(row, at_s=row.at_s / factor)


def _check(factor: float) -> None:
    if not (math.isfinite(factor) and factor > 0):
        raise TraceError(f"the factor on a rate must be positive, got {factor}")
