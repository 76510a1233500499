"""A figure's runs: labelled configs, each with the same seeds, so that all systems meet the same
requests (common random numbers)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from pathlib import Path

import yaml

from experiments.comparison.identity import code_bytes, digest, source_digest
from experiments.composing import CONFIGS, composed_run
from experiments.config.run_config import RunConfig

_PACKAGE = Path(__file__).resolve().parents[1]
_MEASURING = {  # files that a measure hangs on, besides what simulates
    "": ("figures/measures.py", "figures/played.py"),
    "regrets": ("figures/regrets.py", "figures/played.py", "bounds/*.py"),
}
_LARGER = {"latencies": ("distributions", "estimates")}


@dataclass(frozen=True, slots=True)
class FigureCell:
    """One point of a figure.

    Args:
        labels: What the figure calls it, as {"policy": "shepherd", "rps": "1.4"}.
        overrides: Of `python -m experiments.run`.
    """

    labels: Mapping[str, str]
    overrides: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FigureGrid:
    """The runs of one figure.

    Args:
        shared: Overrides of all cells.
        measure: What is kept of a run: a name in `measures.MEASURES`.
    """

    name: str
    shared: tuple[str, ...]
    cells: tuple[FigureCell, ...]
    measure: str = "latencies"
    seeds: tuple[int, ...] = tuple(range(10))

    @property
    def stamp(self) -> str:
        """What the results depend on, without composing a config: the same stamp, the same
        results."""
        words = [[*cell.overrides, *map(str, cell.labels.items())] for cell in self.cells]
        parts = [self.shared, words, self.seeds, self.measure, source_digest(), _configs_digest()]
        parts.append(_measure_digest(self.measure))
        return sha256(json.dumps(parts).encode()).hexdigest()[:16]

    @property
    def command(self) -> str:
        """That runs one cell of the figure with all its files."""
        return f"python -m experiments.run {' '.join(self.shared)} ..."


@dataclass(frozen=True, slots=True)
class FigureRun:
    """One cell with one seed.

    Args:
        keys: Its own, and those of further measures of the same run which hold all that it keeps.
            The same key, the same result.
    """

    grid: FigureGrid
    cell: FigureCell
    seed: int
    config: RunConfig
    keys: tuple[str, ...]

    @property
    def key(self) -> str:
        return self.keys[0]


@cache
def _measure_digest(measure: str) -> str:
    """Return the digest of the code that measures a run."""
    total = sha256()
    for pattern in _MEASURING.get(measure, _MEASURING[""]):
        for path in sorted(_PACKAGE.glob(pattern)):
            total.update(code_bytes(path))
    return total.hexdigest()[:6]


@cache
def _configs_digest() -> str:
    """Return the digest of the configs that a grid composes, without their comments.

    Experiments are not part of it: a grid names its overrides itself.
    """
    total = sha256()
    for path in sorted(CONFIGS.glob("**/*.yaml")):
        if path.parent.name != "experiment":
            total.update(f"{path.relative_to(CONFIGS)}\0{_config_text(path)}\0".encode())
    return total.hexdigest()


def _config_text(path: Path) -> str:
    """Return a config's data. Hydra's `# @package` line is data, all other comments are words."""
    text = path.read_text()
    directives = [line for line in text.splitlines() if line.startswith("# @package")]
    return json.dumps([directives, yaml.safe_load(text)])


@cache
def _composed(overrides: tuple[str, ...]) -> RunConfig:
    return composed_run(overrides)


def runs_of(grid: FigureGrid) -> list[FigureRun]:
    """All runs of a figure."""
    return [_run_of(grid, cell, seed) for cell in grid.cells for seed in grid.seeds]


def _run_of(grid: FigureGrid, cell: FigureCell, seed: int) -> FigureRun:
    config = replace(_composed((*grid.shared, *cell.overrides)), seed=seed)
    name = digest(config)
    measures = (grid.measure, *_LARGER.get(grid.measure, ()))
    keys = tuple(f"{measure}-{_measure_digest(measure)}-{name}" for measure in measures)
    return FigureRun(grid, cell, seed, config, keys)
