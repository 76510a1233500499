"""Pictures of figures 6a, 6b, 7 and LoRA from `loading.json`: medians, and a dot per round."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

from experiments.benchmarks.loading.breakdown import ALL_STEPS
from experiments.benchmarks.loading.row import LORA, LoadingRow


def draw(rows: Sequence[LoadingRow], directory: Path) -> list[Path]:
    """Draw every figure that has rows and return the files."""
    rows = [row for row in rows if row.valid]
    cold = [row for row in rows if row.cache == "cold" and row.loader not in ALL_STEPS]
    models = [row for row in cold if row.model != LORA]
    media = [row for row in rows if row.cache not in ("cold", "hot")]
    steps = [row for row in rows if row.loader in ALL_STEPS]
    adapter = [row for row in cold if row.model == LORA]
    figures = (
        ("figure6a", models, "model", "seconds", "cold load (s)"),
        ("figure6b", media, "cache", "ratio_to_limit", "share of the medium's bandwidth"),
        ("figure7", steps, "model", "bytes_per_s", "cold load (GB/s)"),
        ("lora", adapter, "model", "seconds", "cold load of an adapter (s)"),
    )
    written = []
    for name, chosen, group, value, label in figures:
        if chosen:
            file = directory / f"{name}.png"
            _bars(chosen, (group, value), label, file)
            written.append(file)
    return written


def _bars(rows: Sequence[LoadingRow], keys: tuple[str, str], label: str, file: Path) -> None:
    matplotlib: Any = import_module("matplotlib")
    matplotlib.use("Agg")
    pyplot: Any = import_module("matplotlib.pyplot")
    group, value = keys
    scale = 1e-9 if value == "bytes_per_s" else 1.0
    groups = list(dict.fromkeys(getattr(row, group) for row in rows))
    loaders = list(dict.fromkeys(row.loader for row in rows))
    figure, axes = pyplot.subplots(figsize=(2 + 1.2 * len(groups) + 0.5 * len(loaders), 4))
    width = 0.8 / len(loaders)
    colours = pyplot.get_cmap("tab20").colors
    for place, loader in enumerate(loaders):
        label_once: str | None = loader
        for number, one in enumerate(groups):
            values = [
                scale * float(getattr(row, value))
                for row in rows
                if row.loader == loader
                and getattr(row, group) == one
                and getattr(row, value) is not None
            ]
            if values:
                at = number + (place - (len(loaders) - 1) / 2) * width
                colour = colours[place % len(colours)]
                axes.bar(at, median(values), width, label=label_once, color=colour)
                label_once = None
                axes.plot([at] * len(values), values, "k.", markersize=3)
    axes.set_xticks(range(len(groups)), groups)
    axes.set_ylabel(label)
    axes.set_title(f"measured on: {', '.join(dict.fromkeys(row.medium for row in rows))}")
    axes.legend(fontsize="x-small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.tight_layout()
    figure.savefig(file, dpi=150)
    pyplot.close(figure)
