"""A quantity that grows with a size, `a + b x + c x^2` with a, b, c >= 0, learnt from samples.

The fit minimises the squares of relative errors, so that it is equally accurate in per cent at
every size: a sample y has the weight 1 / (f y), where f is the prediction before the sample. Older
samples fade. The prior contributes its shape only: three samples of little weight that do not fade,
scaled by the mean ratio of measured to prior values. So the first measurement sets the scale, and
the prior matters only where there are no measurements.
"""

from dataclasses import dataclass
from itertools import combinations
from math import exp, fsum, log

_PRIOR_WEIGHT = 0.02  # of each of its three samples; a measured sample begins with 1
_POWERS = (0, 1, 2)
_SUBSETS = tuple(chosen for size in (3, 2, 1) for chosen in combinations(_POWERS, size))
_LEAST_Y = 1e-9

Factors = tuple[float, ...]  # coefficients of x^0, x^1, x^2


@dataclass(slots=True)
class _Moments:
    """Weighted sums of x^k and of x^k y over samples."""

    of_x: list[float]
    of_xy: list[float]

    def add(self, x: float, y: float, weight: float) -> None:
        for power in range(5):
            self.of_x[power] += weight * x**power
        for power in _POWERS:
            self.of_xy[power] += weight * x**power * y

    def fade(self, keep: float) -> None:
        self.of_x = [keep * moment for moment in self.of_x]
        self.of_xy = [keep * moment for moment in self.of_xy]


class LearntCurve:
    """A learnt curve. Its prior is the line `intercept + slope x`, trusted for x in [0, span]."""

    __slots__ = ("_factors", "_log_scale", "_num_samples", "_prior", "_samples", "_span")

    def __init__(self, slope: float, intercept: float, span: float) -> None:
        self._span = span
        self._prior: Factors = (intercept, slope * span, 0.0)
        self._samples = _Moments([0.0] * 5, [0.0] * 3)
        self._num_samples = 0.0  # faded count
        self._log_scale = 0.0  # faded mean of log(sample / prior)
        self._factors: Factors | None = self._prior

    def add(self, x: float, y: float, keep: float) -> None:
        """Learn from a sample `y` at `x`. Weights of earlier samples are multiplied by `keep`."""
        scaled, y = x / self._span, max(y, _LEAST_Y)
        ratio = log(y / max(_value(self._prior, scaled), _LEAST_Y))
        self._num_samples = keep * self._num_samples + 1.0
        self._log_scale += (ratio - self._log_scale) / self._num_samples
        expected = y if self._num_samples == 1.0 else max(self.at(x), _LEAST_Y)
        self._samples.fade(keep)
        self._samples.add(scaled, y, 1.0 / (expected * y))
        self._factors = None

    def at(self, x: float) -> float:
        """Return the value of the fitted curve at `x`."""
        if self._factors is None:
            self._factors = self._fit()
        return _value(self._factors, x / self._span)

    def _fit(self) -> Factors:
        """Return the best factors that are not negative.

        By the optimality conditions of this convex problem, some subset of the factors solves its
        normal equations and the other factors are zero; so every subset is tried.
        """
        sums = _Moments(list(self._samples.of_x), list(self._samples.of_xy))
        for x in (0.0, 0.5, 1.0):
            y = max(exp(self._log_scale) * _value(self._prior, x), _LEAST_Y)
            sums.add(x, y, _PRIOR_WEIGHT / y**2)
        best: Factors = (0.0, 0.0, 0.0)
        least = 0.0
        for chosen in _SUBSETS:
            matrix = [[sums.of_x[row + column] for column in chosen] for row in chosen]
            found = _solve(matrix, [sums.of_xy[power] for power in chosen])
            if found is None or min(found) < 0:
                continue
            by_power = dict(zip(chosen, found, strict=True))
            # The squared error at a stationary point, without the part independent of the factors.
            error = -fsum(factor * sums.of_xy[power] for power, factor in by_power.items())
            if error < least:
                best, least = tuple(by_power.get(power, 0.0) for power in _POWERS), error
        return best


def _value(factors: Factors, x: float) -> float:
    constant, linear, square = factors
    return constant + x * (linear + x * square)


def _solve(matrix: list[list[float]], right: list[float]) -> list[float] | None:
    """Solve a positive definite system by elimination; None if it is nearly singular."""
    size = len(right)
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for pivot in range(size):
        if rows[pivot][pivot] <= 1e-12 * matrix[pivot][pivot]:
            return None
        for below in range(pivot + 1, size):
            factor = rows[below][pivot] / rows[pivot][pivot]
            for column in range(pivot, size + 1):
                rows[below][column] -= factor * rows[pivot][column]
    found = [0.0] * size
    for place in reversed(range(size)):
        known = fsum(rows[place][column] * found[column] for column in range(place + 1, size))
        found[place] = (rows[place][size] - known) / rows[place][place]
    return found
