"""The results in `loading.json`: rows, and the data for the figures and the simulator."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from experiments.benchmarks.loading.row import LORA, LoadingRow

RESULTS = Path(__file__).resolve().parents[3] / "results" / "loading" / "loading.json"
# Names of the simulator's loaders and of the benchmark's. TensorFlow is not measured.
MEASURED_AS: Mapping[str, str] = {
    "pytorch": "torch.load",
    "safetensors": "safetensors",
    "serverlessllm": "ours pool",
}
_STEPS: Mapping[str, str] = {  # figure 7's names
    "step 2 bulk": "+Bulk",
    "step 3 direct": "+Direct",
    "step 4 threads": "+Thread",
    "step 5 pool": "+Pinned",
    "step 6 pipeline": "+Pipeline",
}


@dataclass(frozen=True, slots=True)
class MeasuredRate:
    """A results file, with its valid rows only."""

    machine: Mapping[str, Any]
    rows: Sequence[LoadingRow]
    gains: Mapping[str, Mapping[str, float]]

    def values(self, what: Callable[[LoadingRow], float | None], **wanted: str) -> list[float]:
        """Return a number of each row with the wanted field values, without the adapters."""
        found = (
            what(row)
            for row in self.rows
            if row.model != LORA
            and all(getattr(row, name) == value for name, value in wanted.items())
        )
        return [value for value in found if value is not None]


def read_measured(path: Path = RESULTS) -> MeasuredRate | None:
    """Read a results file; None if there is none."""
    if not path.is_file():
        return None
    document = json.loads(path.read_text())
    rows = [LoadingRow(**row) for row in document["rows"]]
    return MeasuredRate(document["machine"], [row for row in rows if row.valid], document["gains"])


def for_figures(measured: MeasuredRate) -> dict[str, Any]:
    """Return the data of figures 6a, 6b, 7 and LoRA, every round: `measured` in `loaders.json`."""
    names = {loader: name for name, loader in MEASURED_AS.items()}
    seconds: dict[str, dict[str, list[float]]] = {name: {} for name in MEASURED_AS}
    use: dict[str, dict[str, list[float]]] = {name: {} for name in MEASURED_AS}
    for row in measured.rows:
        if row.loader in names and row.cache == "cold":
            seconds[names[row.loader]].setdefault(row.model, []).append(row.seconds)
        elif row.loader in names and row.cache != "hot" and row.ratio_to_limit is not None:
            use[names[row.loader]].setdefault(row.cache, []).append(row.ratio_to_limit)
    return {
        "machine": dict(measured.machine),
        "media": sorted({row.medium for row in measured.rows}),
        "lora_seconds": {loader: of.pop(LORA) for loader, of in seconds.items() if LORA in of},
        "seconds": seconds,
        "bandwidth_use": use,
        "gains": {
            name: median(gains[step] for gains in measured.gains.values() if step in gains)
            for step, name in _STEPS.items()
            if any(step in gains for gains in measured.gains.values())
        },
    }
