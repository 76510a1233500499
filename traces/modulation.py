"""Rates that vary: an hour-of-week profile, an Ornstein-Uhlenbeck log-rate, or their product.

    r(t) = rate * profile(t) * exp(x(t) - s^2 / 2),   s^2 = ln(1 + c^2)

where x is an Ornstein-Uhlenbeck process of variance s^2 and time constant tau, so that the factor
has mean 1 and coefficient of variation c. Arrivals of a rate-1 process, in operational time u, are
mapped to clock times by inverting L(t) = integral of r (linear inside a step). So the burstiness of
the gaps and the variation of the rate are independent settings.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from traces.data_files import load_json
from traces.errors import TraceError

DiurnalProfile = Literal["code", "conv"]

STEP_S = 10.0  # the rate is constant for a step: 1/70 of the time constant of azure_like
_BLOCK_STEPS = 360


@dataclass(frozen=True, slots=True)
class OrnsteinUhlenbeck:
    """A random variation of the rate.

    Args:
        cv: Coefficient of variation of the factor on the rate.
        tau_s: Time constant.
    """

    cv: float
    tau_s: float

    def __post_init__(self) -> None:
        if not (self.cv >= 0 and self.tau_s > 0):
            raise TraceError(f"cv must be >= 0 and tau_s > 0, got {self.cv} and {self.tau_s}")

    def factors(self, rng: Generator) -> Iterator[NDArray[np.float64]]:
        """Yield the factors of successive steps in blocks `(_BLOCK_STEPS,)`, without end."""
        sigma = math.sqrt(math.log1p(self.cv**2))
        keep = math.exp(-STEP_S / self.tau_s)
        kick = sigma * math.sqrt(1.0 - keep**2)
        x = sigma * rng.standard_normal()
        while True:
            path = np.empty(_BLOCK_STEPS)
            for step, noise in enumerate(rng.standard_normal(_BLOCK_STEPS).tolist()):
                path[step] = x
                x = keep * x + kick * noise
            yield np.exp(path - sigma**2 / 2.0)


def steady() -> Iterator[NDArray[np.float64]]:
    """Yield blocks of the factor 1 without end."""
    while True:
        yield np.ones(_BLOCK_STEPS)


@dataclass(frozen=True, slots=True)
class WeekProfile:
    """Load relative to the week's mean, at the middle of its 168 hours from Monday 00:00 UTC."""

    hourly: tuple[float, ...]

    def at(self, times_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the factor at each time, linear between the middles of hours."""
        hours: NDArray[np.float64] = (times_s / 3600.0 - 0.5) % 168.0
        factors: NDArray[np.float64] = np.interp(
            hours, np.arange(169), [*self.hourly, self.hourly[0]]
        )
        return factors


def week_profile(name: DiurnalProfile) -> WeekProfile:
    """Return the Azure LLM week of May 2024: `code` (10:1 over a weekday) or `conv` (2:1)."""
    data = load_json("diurnal_profiles.json")["profiles"][name]
    weekend = [hour * data["weekend_over_weekday"] for hour in data["weekend"]]
    week = [*data["weekday"] * 5, *weekend * 2]
    mean = math.fsum(week) / 168.0
    return WeekProfile(tuple(hour / mean for hour in week))


@dataclass(frozen=True, slots=True)
class Modulation:
    """The variation of a rate over time; by default none.

    Args:
        week: Profile of the load over the week, common to all models.
        start_hour: Hour of the week (0: Monday 00:00 UTC) at which the workload starts.
        fluctuation: Random variation, independent for each model.
    """

    week: WeekProfile | None = None
    start_hour: float = 0.0
    fluctuation: OrnsteinUhlenbeck | None = None

    def times(
        self,
        arrivals: Iterator[NDArray[np.float64]],
        rate: float,
        until_s: float,
        rng: Generator,
    ) -> Iterator[float]:
        """Yield the clock times before `until_s` of rate-1 `arrivals` at mean `rate` per second.

        A later `until_s` only adds times at the end.
        """
        if rate <= 0:
            return
        blocks = self._cumulative(rate, rng)
        grid = next(blocks)
        for chunk in arrivals:
            pending = chunk
            while len(pending):
                cut = int(np.searchsorted(pending, grid.load[-1], side="right"))
                times = np.interp(pending[:cut], grid.load, grid.times_s)
                yield from times[times < until_s].tolist()
                pending = pending[cut:]
                if len(pending):
                    if grid.times_s[-1] >= until_s:
                        return
                    grid = next(blocks)

    def _cumulative(self, rate: float, rng: Generator) -> "Iterator[_Grid]":
        load, step = 0.0, 0
        for factors in self.fluctuation.factors(rng) if self.fluctuation else steady():
            times_s = np.arange(step, step + _BLOCK_STEPS + 1).astype(np.float64) * STEP_S
            rates = rate * factors
            if self.week is not None:
                middles = times_s[:-1] + STEP_S / 2 + self.start_hour * 3600.0
                rates = rates * self.week.at(middles)
            sums = np.empty(_BLOCK_STEPS + 1)
            sums[0] = load
            np.cumsum(rates * STEP_S, out=sums[1:])
            sums[1:] += load
            yield _Grid(sums, times_s)
            load, step = float(sums[-1]), step + _BLOCK_STEPS


@dataclass(frozen=True, slots=True)
class _Grid:
    """Expected arrivals `load` until `times_s`, each `(_BLOCK_STEPS + 1,)`."""

    load: NDArray[np.float64]
    times_s: NDArray[np.float64]
