"""The burstiness of single functions: CVs of the gaps of Azure Functions apps without timers."""

import math
from dataclasses import dataclass

import numpy as np

from traces.data_files import load_json
from traces.seeding import generator

_STEADIEST_CV, _BURSTIEST_CV = 0.02, 30.0  # ends of the published CDF


@dataclass(frozen=True, slots=True)
class PublishedCvs:
    """The inverse CDF of the CV over apps, linear in ln(cv) because its points span decades."""

    probabilities: tuple[float, ...]
    log_cvs: tuple[float, ...]

    @classmethod
    def load(cls) -> "PublishedCvs":
        """Return the published distribution (`data/published_targets.json`)."""
        data = load_json("published_targets.json")["gap_cv_without_timers"]
        points = [(1.0 - above, float(cv)) for cv, above in data["fraction_above"].items()]
        points += [(int(name[1:]) / 100.0, cv) for name, cv in data["quantiles"].items()]
        points = sorted([(0.0, _STEADIEST_CV), *points, (1.0, _BURSTIEST_CV)])
        return cls(tuple(p for p, _ in points), tuple(math.log(cv) for _, cv in points))

    def cv(self, function: str, seed: int) -> float:
        """Draw the CV of a function; it depends on the function's name and the seed only."""
        uniform = generator(seed, "cv", function).random()
        return math.exp(float(np.interp(uniform, self.probabilities, self.log_cvs)))
