"""Arrivals like those of the Azure code-completion service of 2023: bursts and long silences.

    burst    ceil(lognormal(3.787, 1.252)) requests, at most 600
    gaps     v * 0.036 s * Weibull(0.447), at most 2 s, where v = exp(0.401 z - 0.401^2 / 2) is
             drawn once per burst: some bursts are faster than others
    silence  2 s + lognormal(1.668, 1.896), at most 220 s

The parameters were found by a random search over runs as long as the trace, against its index of
dispersion at 1, 10, 60 and 600 s, the correlation of successive minutes, its mean rate, the CV of
its gaps and its share of empty 10-s windows (`python -m traces validate` shows the outcome).

At a rate below the trace's 2.6/s the silences are longer and the bursts unchanged. At a higher rate
everything is faster.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

_WARM_UP_CYCLES = 10.0  # discarded: time 0 must be a random time, not the start of a burst


@dataclass(frozen=True, slots=True)
class BurstLaw:
    """The parameters of the module's table; sizes in requests, times in seconds."""

    size_mu: float = 3.787
    size_sigma: float = 1.252
    max_size: float = 600.0
    gap_shape: float = 0.447
    gap_scale_s: float = 0.036
    max_gap_s: float = 2.0
    speed_sigma: float = 0.401
    min_silence_s: float = 2.0
    silence_mu: float = 1.668
    silence_sigma: float = 1.896
    max_silence_s: float = 220.0

    @property
    def mean_size(self) -> float:
        """Mean requests in a burst; rounding up adds half a request."""
        return _capped_lognormal_mean(self.size_mu, self.size_sigma, self.max_size) + 0.5

    @property
    def mean_silence_s(self) -> float:
        """Mean seconds between bursts."""
        tail_s = _capped_lognormal_mean(self.silence_mu, self.silence_sigma, self.max_silence_s)
        return self.min_silence_s + tail_s

    @property
    def mean_gap_s(self) -> float:
        """Mean gap in a burst over all speeds (Gauss-Hermite quadrature of the lognormal)."""
        from scipy.special import gammainc  # importing takes 0.2 s, and only bursts need it

        nodes, weights = np.polynomial.hermite_e.hermegauss(31)
        sigma = self.speed_sigma
        scales = self.gap_scale_s * np.exp(sigma * nodes - sigma**2 / 2)
        limit = (self.max_gap_s / scales) ** self.gap_shape
        below = scales * math.gamma(1 + 1 / self.gap_shape)
        below = below * gammainc(1 + 1 / self.gap_shape, limit)
        means = below + self.max_gap_s * np.exp(-limit)
        return float(np.dot(means, weights) / np.sum(weights))

    @property
    def mean_rate_rps(self) -> float:
        """Mean requests per second over bursts and silences."""
        burst_s = self.mean_size * self.mean_gap_s
        return self.mean_size / (burst_s + self.mean_silence_s)


def burst_arrivals(
    rate: float, rng: Generator, law: BurstLaw | None = None
) -> Iterator[NDArray[np.float64]]:
    """Yield arrays of arrival times in seconds, of mean `rate` per second, without end."""
    law = law or BurstLaw()
    speed = max(1.0, rate / law.mean_rate_rps)
    burst_s = law.mean_size * law.mean_gap_s
    stretch = (law.mean_size * speed / rate - burst_s) / law.mean_silence_s
    now = -_WARM_UP_CYCLES * (burst_s + stretch * law.mean_silence_s)
    while True:
        ends = now + np.cumsum(_gaps(law, rng))
        now = float(ends[-1]) + stretch * _silence_s(law, rng)
        times: NDArray[np.float64] = ends[ends >= 0.0] / speed
        if len(times):
            yield times


def _gaps(law: BurstLaw, rng: Generator) -> NDArray[np.float64]:
    size = math.ceil(min(rng.lognormal(law.size_mu, law.size_sigma), law.max_size))
    sigma = law.speed_sigma
    slowness = math.exp(sigma * rng.standard_normal() - sigma**2 / 2)
    gaps = law.gap_scale_s * slowness * rng.weibull(law.gap_shape, size)
    return np.minimum(gaps, law.max_gap_s)


def _silence_s(law: BurstLaw, rng: Generator) -> float:
    tail_s = min(rng.lognormal(law.silence_mu, law.silence_sigma), law.max_silence_s)
    return law.min_silence_s + float(tail_s)


def _capped_lognormal_mean(mu: float, sigma: float, cap: float) -> float:
    """Return E[min(X, cap)] of a lognormal X."""
    normal = NormalDist()
    log_cap = math.log(cap)
    below = math.exp(mu + sigma**2 / 2) * normal.cdf((log_cap - mu - sigma**2) / sigma)
    return below + cap * normal.cdf((mu - log_cap) / sigma)
