"""Plots of a soak: one panel per series over time; series that grow are red."""

from collections.abc import Collection, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from experiments.campaigns.cluster.soak_samples import SampleSeries

_COLUMNS = 4


def draw(series: Mapping[str, SampleSeries], growing: Collection[str], file: Path) -> None:
    """Plot `series` into `file`; `growing` names the series to draw in red."""
    matplotlib: Any = import_module("matplotlib")
    matplotlib.use("Agg")
    pyplot: Any = import_module("matplotlib.pyplot")
    rows = -(-len(series) // _COLUMNS)
    size = (3.2 * _COLUMNS, 2.0 * rows)
    figure, panels = pyplot.subplots(rows, _COLUMNS, figsize=size, squeeze=False)
    all_axes = [axes for line in panels for axes in line]
    for axes, (name, one) in zip(all_axes, series.items(), strict=False):
        minutes = [at_s / 60 for at_s in one.at_s]
        scale, unit = (1 << 20, ", MiB") if name.endswith("bytes") else (1, "")
        colour = "tab:red" if name in growing else "tab:blue"
        axes.plot(minutes, [value / scale for value in one.values], color=colour, linewidth=0.8)
        axes.set_ylim(bottom=0)
        axes.set_title(name.removesuffix("_bytes").removesuffix(" bytes") + unit, fontsize=8)
        axes.tick_params(labelsize=7)
    for axes in all_axes[len(series) :]:
        axes.set_axis_off()
    figure.supxlabel("minutes", fontsize=8)
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    pyplot.close(figure)
