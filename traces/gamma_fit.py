"""The maximum-likelihood fit of a Gamma distribution with location 0 to gaps.

    ln k - psi(k) = ln(mean x) - mean(ln x),   scale = mean / k

solved by the generalised Newton steps of Minka, "Estimating a Gamma distribution", 2002.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from traces.errors import TraceError

_STEPS = 12  # each step about doubles the digits
_EQUAL = 1e-12  # log-mean minus mean-log below which all gaps are the same


@dataclass(frozen=True, slots=True)
class GammaFit:
    """The rate (1 / mean gap) and the CV of a renewal process."""

    rate: float
    cv: float


def fit_gamma(gaps: NDArray[np.float64]) -> GammaFit:
    """Return the fit to positive gaps `(n,)`, n >= 2; equal gaps have CV 0.

    Raises:
        TraceError: There are fewer than two gaps, or one is not positive.
    """
    from scipy.special import polygamma, psi  # importing takes 0.2 s, and only fits need it

    if len(gaps) < 2 or not float(gaps.min()) > 0:
        raise TraceError("a Gamma fit needs two gaps or more, all positive")
    mean = float(np.mean(gaps))
    spread = math.log(mean) - float(np.mean(np.log(gaps)))
    if spread < _EQUAL:
        return GammaFit(1.0 / mean, 0.0)
    shape = (3.0 - spread + math.sqrt((spread - 3.0) ** 2 + 24.0 * spread)) / (12.0 * spread)
    for _ in range(_STEPS):
        slope = shape**2 * (1.0 / shape - float(polygamma(1, shape)))
        shape = 1.0 / (1.0 / shape + (math.log(shape) - float(psi(shape)) - spread) / slope)
    return GammaFit(1.0 / mean, 1.0 / math.sqrt(shape))
