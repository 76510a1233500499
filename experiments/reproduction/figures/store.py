"""Stored results of runs, by key.

The results of a figure are in `results/figures/NAME.json`. Results that are not yet in such a file
are in `outputs/figures/runs.jsonl`, so that an interrupted campaign resumes.
"""

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.comparison.identity import source_digest
from experiments.reproduction.figures.grid import FigureGrid, FigureRun
from experiments.reproduction.figures.measures import added_by_others

ROOT = Path(__file__).resolve().parents[3]
RESULTS = ROOT / "results" / "figures"
PROGRESS = ROOT / "outputs" / "figures" / "runs.jsonl"


class ResultStore:
    """The stored results of runs.

    Args:
        results: Folder of the figures' files.
        progress: File of the finished runs of a campaign, one line each.
    """

    def __init__(self, results: Path = RESULTS, progress: Path = PROGRESS) -> None:
        self._results = results
        self._progress = progress
        self._known: dict[str, dict[str, Any]] = {}
        for path in sorted(results.glob("*.json")):
            for row in json.loads(path.read_text()).get("runs", ()):
                self._known[row["key"]] = row
        if progress.is_file():
            for line in progress.read_text().splitlines():
                if line.endswith("}"):  # the last line may be cut off
                    row = json.loads(line)
                    self._known[row["key"]] = row

    def __contains__(self, key: str) -> bool:
        return key in self._known

    def holds(self, run: FigureRun) -> bool:
        """Return True if the result of a run is stored."""
        return any(key in self._known for key in run.keys)

    def _found(self, run: FigureRun) -> tuple[float, dict[str, Any]]:
        """Return the wall time of a run, and its numbers without those of larger measures."""
        row = next(self._known[key] for key in run.keys if key in self._known)
        left_out = added_by_others(run.grid.measure)
        return row["wall_s"], {k: v for k, v in row["measured"].items() if k not in left_out}

    def add(self, key: str, measured: Mapping[str, Any], wall_s: float) -> None:
        """Store the result of a run."""
        row = {"key": key, "wall_s": round(wall_s, 3), "measured": measured}
        self._known[key] = row
        self._progress.parent.mkdir(parents=True, exist_ok=True)
        with self._progress.open("a") as file:
            file.write(json.dumps(row) + "\n")

    def is_current(self, grid: FigureGrid) -> bool:
        """Return True if running a figure again would give the same file."""
        path = self._results / f"{grid.name}.json"
        return path.is_file() and json.loads(path.read_text()).get("stamp") == grid.stamp

    def publish(self, grid: FigureGrid, runs: Sequence[FigureRun]) -> bool:
        """Write the file of a figure with all its runs stored; return False if it is unchanged."""
        rows = []
        for run in runs:
            wall_s, measured = self._found(run)
            row: dict[str, Any] = {"key": run.key, "labels": dict(run.cell.labels)}
            row |= {"overrides": list(run.cell.overrides), "seed": run.seed}
            rows.append(row | {"wall_s": wall_s, "measured": measured})
        return self.write(
            grid.name,
            {
                "stamp": grid.stamp,
                "command": grid.command,
                "shared": list(grid.shared),
                "seeds": list(grid.seeds),
                "runs": rows,
            },
        )

    def write(self, name: str, content: Mapping[str, Any]) -> bool:
        """Write the file of a figure; return False if it has this content already."""
        path = self._results / f"{name}.json"
        old = json.loads(path.read_text()) if path.is_file() else {}
        if {key: old.get(key) for key in content} == dict(content):
            return False
        self._results.mkdir(parents=True, exist_ok=True)
        whole = {"figure": name, "commit": _commit(), "source": source_digest()[:12], **content}
        head = json.dumps({key: value for key, value in whole.items() if key != "runs"})[:-1]
        lines = ",\n".join(json.dumps(row) for row in content.get("runs", ()))
        text = f'{head}, "runs": [\n{lines}\n]}}\n' if "runs" in content else f"{head}}}\n"
        temporary = path.with_suffix(".part")
        temporary.write_text(text)
        temporary.replace(path)
        return True


def _commit() -> str:
    """Return the commit of the working tree, or "unknown" outside of a repository."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"],  # noqa: S607 - the caller's git
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()
