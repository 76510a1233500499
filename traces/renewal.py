"""Arrival times of renewal processes that are stationary from time 0 on.

Gaps are Gamma of mean 1 and coefficient of variation `cv`: shape = 1 / cv^2, scale = cv^2. cv 1 is
the Poisson process, cv 0 has equal gaps. The first arrival is uniform inside a length-biased gap
(Gamma of shape + 1), as seen from a random time. A process that started with an arrival at 0 would
have too high a rate in short windows when cv is large.
"""

import math
from collections.abc import Iterator

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from traces.errors import TraceError

_FIRST_CHUNK, _LAST_CHUNK = 2, 1024  # a model that is called once a day needs few draws


def gamma_arrivals(cv: float, rng: Generator) -> Iterator[NDArray[np.float64]]:
    """Yield arrays of rising arrival times of a process of rate 1, without end.

    Raises:
        TraceError: `cv` is negative or not finite.
    """
    if not (math.isfinite(cv) and cv >= 0):
        raise TraceError(f"cv must be 0 or more, got {cv}")
    if cv == 0:
        first = rng.random()
    else:
        shape, scale = 1.0 / cv**2, cv**2
        first = rng.random() * rng.gamma(shape + 1.0, scale)
    now, chunk = first, _FIRST_CHUNK
    yield np.array([first])
    while True:
        gaps = np.ones(chunk) if cv == 0 else rng.gamma(shape, scale, chunk)
        gaps[0] += now
        times: NDArray[np.float64] = np.cumsum(gaps)
        now = float(times[-1])
        yield times
        chunk = min(2 * chunk, _LAST_CHUNK)


def scaled_times(
    chunks: Iterator[NDArray[np.float64]], rate: float, until_s: float
) -> Iterator[float]:
    """Yield the times before `until_s` of a rate-1 process scaled to `rate` per second."""
    if not (math.isfinite(rate) and rate >= 0):
        raise TraceError(f"a rate must be 0 or more, got {rate}")
    if rate == 0:
        return
    for chunk in chunks:
        times = chunk / rate
        yield from times[times < until_s].tolist()
        if times[-1] >= until_s:
            return
