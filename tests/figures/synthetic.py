"""Small result files of invented numbers, in the form of `experiments.figures`."""

import json
from pathlib import Path
from typing import Any

from experiments.reproduction.figures.catalogue import grids
from experiments.reproduction.figures.standalone import STANDALONE

SEEDS = (0, 1)


def measured(value: float) -> dict[str, Any]:
    """Return the numbers of all measures, invented from one value."""
    tier = {"loads": 3, "p1_s": -0.001, "p50_s": 0.0, "p99_s": 0.002, "worst_s": 0.01}
    return {
        "mean_s": value,
        "p50_s": value,
        "p99_s": 3 * value,
        "ttft_p50_s": value,
        "inside_limit": 0.5,
        "quantiles_s": [0.0, value, 2 * value],
        "delay_s": value,
        "bound_s": value / 2,
        "regret_s": value / 2,
        "by_tier": {"DRAM": tier},
    }


def write_results(folder: Path) -> None:
    """Write the results of every figure."""
    folder.mkdir(parents=True)
    for name, content in STANDALONE.items():
        (folder / f"{name}.json").write_text(json.dumps({"commit": "abc", **content()}))
    for grid in grids():
        runs = [
            {"labels": dict(cell.labels), "wall_s": 1.0, "measured": measured(1.0 + index + seed)}
            for index, cell in enumerate(grid.cells)
            for seed in SEEDS
        ]
        plain = {
            "commit": "abc",
            "command": grid.command,
            "shared": list(grid.shared),
            "seeds": list(SEEDS),
            "runs": runs,
        }
        (folder / f"{grid.name}.json").write_text(json.dumps(plain))
