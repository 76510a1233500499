"""The popularity of models: shares of the load in falling order that add up to 1.

    power_law   share_i ~ (i + 1) ** -alpha                 (MuxServe: alpha 0.7 to 2.1)
    lognormal   share_i ~ exp(sigma * z_i), z_i the standard normal quantile at 1 - (i + 1/2) / n
    uniform     share_i = 1 / n

The lognormal quantiles are exact, not drawn, so a workload's popularity does not change with its
seed. Lognormal fits every public trace better than a power law: sigma 3.8 for serverless functions
(Azure 2019), 2.1 to 2.7 for LLM clients and base models (ServeGen, GenTD26), 1.4 for the 27 models
of LMSYS Arena.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, assert_never

import numpy as np
from numpy.typing import NDArray

from traces.errors import TraceError
from traces.seeding import generator

FUNCTIONS_SIGMA = 3.79  # ln sigma of daily invocations, functions of Azure 2019
MODELS_SIGMA = 2.11  # ln sigma of requests per base model, 86 models of GenTD26


@dataclass(frozen=True, slots=True)
class Popularity:
    """A family of shares.

    Args:
        kind: One of the formulas of the module.
        alpha: Exponent of the power law.
        sigma: Standard deviation of the logarithm, for lognormal. None: FUNCTIONS_SIGMA for
            functions, MODELS_SIGMA for models.
        shuffled: Draw the ranks of the models by the seed; else the first is the most popular.

    Raises:
        TraceError: `alpha` or `sigma` is negative or not finite.
    """

    kind: Literal["power_law", "lognormal", "uniform"] = "lognormal"
    alpha: float = 1.0
    sigma: float | None = None
    shuffled: bool = False

    def __post_init__(self) -> None:
        for name, value in (("alpha", self.alpha), ("sigma", self.sigma or 0.0)):
            if not (math.isfinite(value) and value >= 0):
                raise TraceError(f"{name} of a popularity must be 0 or more, got {value}")


def shares(popularity: Popularity, num: int, seed: int) -> list[float]:
    """Return the shares of `num` models; the seed matters only if shuffled.

    Raises:
        TraceError: `num` is below 1.
    """
    if num < 1:
        raise TraceError(f"popularity needs at least one model, got {num}")
    weights = _weights(popularity, num)
    total = math.fsum(weights)
    ranked = [weight / total for weight in weights]
    if not popularity.shuffled:
        return ranked
    order = generator(seed, "popularity").permutation(num)
    return [ranked[rank] for rank in order.tolist()]


def _weights(popularity: Popularity, num: int) -> list[float]:
    match popularity.kind:
        case "power_law":
            return [math.pow(rank + 1, -popularity.alpha) for rank in range(num)]
        case "lognormal":
            quantile = NormalDist().inv_cdf
            peak = quantile(1 - 0.5 / num)  # subtracted from the exponents to avoid overflow
            sigma = MODELS_SIGMA if popularity.sigma is None else popularity.sigma
            return [
                math.exp(sigma * (quantile(1 - (rank + 0.5) / num) - peak)) for rank in range(num)
            ]
        case "uniform":
            return [1.0] * num
        case _:
            assert_never(popularity.kind)


def top_share(counts: Sequence[float], fraction: float) -> float:
    """Return the share of all counts in the top `fraction` of the items, rounded up to items."""
    ranked: NDArray[np.float64] = np.sort(np.asarray(counts, np.float64))[::-1]
    total = float(np.sum(ranked))
    num = math.ceil(fraction * len(ranked) - 1e-9)  # 0.07 * 100 is a little over 7
    return float(np.sum(ranked[:num])) / total if total else 0.0
