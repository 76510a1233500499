"""Plot catch-up time, pause and slowdown of the source against context.

Each model is a column. Lines are medians; each round is a dot.
"""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from experiments.benchmarks.migration.analysis import medians
from experiments.benchmarks.migration.row import MigrationRow

_COLOURS = {"replay": "C0", "copy": "C1", "hybrid": "C2"}
_MEASURES = (
    ("catch_up_s", "catch-up (s)"),
    ("pause_tokens", "pause of the client\n(inter-token times)"),
    ("source_slowdown", "inter-token time during migration\n(relative to before)"),
)


def draw(rows: Sequence[MigrationRow], file: Path) -> Path:
    """Plot `rows` into `file` and return it."""
    matplotlib: Any = import_module("matplotlib")
    matplotlib.use("Agg")
    pyplot: Any = import_module("matplotlib.pyplot")
    models = sorted({(row.model, row.dtype) for row in rows})
    size = (4.2 * len(models), 2.8 * len(_MEASURES))
    figure, panels = pyplot.subplots(
        len(_MEASURES), len(models), figsize=size, squeeze=False, sharex=True, sharey="row"
    )
    for column, (model, dtype) in enumerate(models):
        chosen = [row for row in rows if (row.model, row.dtype) == (model, dtype)]
        for line, (value, label) in enumerate(_MEASURES):
            _panel(panels[line][column], chosen, value)
            panels[line][0].set_ylabel(label)
        panels[0][column].set_title(model if dtype == "none" else f"{model}, {dtype}")
        panels[-1][column].set_xlabel("context (tokens)")
    panels[0][0].legend()
    figure.tight_layout()
    figure.savefig(file, dpi=150)
    pyplot.close(figure)
    return file


def _panel(axes: Any, rows: Sequence[MigrationRow], value: str) -> None:
    middle = medians(rows, value)
    for strategy, colour in _COLOURS.items():
        dots = [row for row in rows if row.strategy == strategy and getattr(row, value) is not None]
        axes.scatter(
            [row.asked_context_tokens for row in dots],
            [getattr(row, value) for row in dots],
            color=colour,
            s=6,
            alpha=0.5,
        )
        curve = sorted((key[3], time_s) for key, time_s in middle.items() if key[2] == strategy)
        if value == "pause_tokens":
            axes.axhline(2, color="grey", linewidth=0.6)
        axes.plot(*zip(*curve, strict=True) if curve else ([], []), color=colour, label=strategy)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log" if value == "catch_up_s" else "linear")
    axes.set_ylim(bottom=None if value == "catch_up_s" else 0)
    axes.grid(alpha=0.3)
