"""The runs of a figure: labelled configs, each under the same seeds.

All systems meet the same requests (common random numbers).
"""

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
from experiments.reproduction.figures.measures import MEASURES, extensions

_PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class FigureCell:
    """A point of a figure: a config that is run under each seed.

    Args:
        labels: Coordinates of the point, such as {"policy": "shepherd", "rps": "1.4"}.
        overrides: Arguments of `python -m experiments.run`.
    """

    labels: Mapping[str, str]
    overrides: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FigureGrid:
    """The runs of one figure.

    Args:
        shared: Overrides of all cells.
        measure: Numbers that are kept of each run: a name in `measures.MEASURES`.
    """

    name: str
    shared: tuple[str, ...]
    cells: tuple[FigureCell, ...]
    measure: str = "latencies"
    seeds: tuple[int, ...] = tuple(range(10))

    @property
    def stamp(self) -> str:
        """A hash of everything that the results depend on: equal stamps, equal results.

        No config is composed for it, which would take seconds.
        """
        words = [[*cell.overrides, *map(str, cell.labels.items())] for cell in self.cells]
        parts = [self.shared, words, self.seeds, self.measure, source_digest(), _configs_digest()]
        parts.append(_measure_digest(self.measure))
        return sha256(json.dumps(parts).encode()).hexdigest()[:16]

    @property
    def command(self) -> str:
        """The beginning of the command that runs one cell and leaves all files of a run."""
        return f"python -m experiments.run {' '.join(self.shared)} ..."


@dataclass(frozen=True, slots=True)
class FigureRun:
    """A cell under a seed.

    Args:
        keys: Keys of results that contain this run's numbers: its own key first, then those of the
            same run under measures that extend its measure. Equal keys, equal results.
    """

    grid: FigureGrid
    cell: FigureCell
    seed: int
    config: RunConfig
    keys: tuple[str, ...]

    @property
    def key(self) -> str:
        """The key under which this run's result is stored."""
        return self.keys[0]


@cache
def _measure_digest(measure: str) -> str:
    """Return the digest of the code that measures a run."""
    total = sha256()
    for pattern in MEASURES[measure].sources:
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
    """Return all runs of a figure: cells times seeds."""
    return [_run_of(grid, cell, seed) for cell in grid.cells for seed in grid.seeds]


def _run_of(grid: FigureGrid, cell: FigureCell, seed: int) -> FigureRun:
    config = replace(_composed((*grid.shared, *cell.overrides)), seed=seed)
    name = digest(config)
    measures = (grid.measure, *extensions(grid.measure))
    keys = tuple(f"{measure}-{_measure_digest(measure)}-{name}" for measure in measures)
    return FigureRun(grid=grid, cell=cell, seed=seed, config=config, keys=keys)
