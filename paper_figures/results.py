"""Result files `results/figures/NAME.json`, written by `python -m experiments.figures`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paper_figures.statistics import Estimate, estimate

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results" / "figures"


@dataclass(frozen=True, slots=True)
class Results:
    """The results of a figure.

    Attributes:
        plain: The content of the file.
    """

    name: str
    plain: Mapping[str, Any]

    def measured(self, **labels: str) -> list[Mapping[str, Any]]:
        """Return the numbers of a cell, one mapping per seed in the order of the seeds.

        Raises:
            KeyError: There is no such cell.
        """
        found = [
            row["measured"]
            for row in self.plain["runs"]
            if all(row["labels"].get(name) == value for name, value in labels.items())
        ]
        if not found:
            raise KeyError(f"{self.name} has no cell {labels}")
        return found

    def values(self, measure: str, **labels: str) -> list[float]:
        """Return a number of a cell, one value per seed."""
        return [float(measured[measure]) for measured in self.measured(**labels)]

    def estimate(self, measure: str, **labels: str) -> Estimate:
        """Return the median of a number of a cell over the seeds."""
        return estimate(self.values(measure, **labels))

    def ratios(
        self, measure: str, over: Mapping[str, str], under: Mapping[str, str]
    ) -> list[float]:
        """Return the ratios of a number in two cells that met the same requests, one per seed."""
        above, below = self.values(measure, **over), self.values(measure, **under)
        return [a / b for a, b in zip(above, below, strict=True) if b > 0]

    @property
    def wall_minutes(self) -> float:
        """Sum of the wall times of all runs, in minutes."""
        return sum(float(row["wall_s"]) for row in self.plain.get("runs", ())) / 60.0


def read_results(name: str, folder: Path = RESULTS) -> Results | None:
    """Return the results of a figure; None if there are none."""
    path = folder / f"{name}.json"
    return Results(name, json.loads(path.read_text())) if path.is_file() else None
