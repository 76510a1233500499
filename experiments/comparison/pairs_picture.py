"""The picture of measured and predicted CDFs: a column per policy, a row per kind of wait."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.comparison.cdf_picture import COLOURS, save_picture
from experiments.comparison.curves import Curve, left_edge_s, right_edge_s

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANEL_WIDTH_IN, PANEL_HEIGHT_IN = 1.75, 1.7


@dataclass(frozen=True, slots=True)
class PanelRow:
    """A row of panels: a kind of wait, and the measured and predicted curve of each policy.

    Args:
        wait: Name of the wait, for the axis.
    """

    wait: str
    measured: tuple[Curve, ...]
    predicted: tuple[Curve, ...]


def draw_pairs(rows: Sequence[PanelRow], folder: Path, stem: str) -> list[Path]:
    """Draw measured curves solid and predicted ones dashed; return the paths of PNG and PDF."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    num_columns = len(rows[0].measured)
    size_in = (0.5 + PANEL_WIDTH_IN * num_columns, 0.35 + PANEL_HEIGHT_IN * len(rows))
    figure = Figure(figsize=size_in, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(rows), num_columns, sharex="row", sharey=True, squeeze=False)
    for row, panels in zip(rows, grid, strict=True):
        _draw_row(row, list(panels))
    for index, panel in enumerate(grid[0]):
        panel.set_title(rows[0].measured[index].label, fontsize=8)
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=7, frameon=False)
    return save_picture(figure, folder, stem)


def _draw_row(row: PanelRow, panels: "Sequence[Axes]") -> None:
    curves = (*row.measured, *row.predicted)
    left_s, right_s = left_edge_s(curves), right_edge_s(curves)
    pairs = zip(panels, row.measured, row.predicted, strict=True)
    for index, (axes, measured, predicted) in enumerate(pairs):
        _draw(
            axes=axes,
            curve=measured,
            colour=COLOURS[index % len(COLOURS)],
            dashes="-",
            label="measured",
            edges_s=(left_s, right_s),
        )
        _draw(
            axes=axes,
            curve=predicted,
            colour="#000000",
            dashes=(0, (3, 1.5)),
            label="predicted",
            edges_s=(left_s, right_s),
        )
        axes.set_xscale("log")
        axes.set_xlim(left_s, right_s)
        axes.set_ylim(0, 1.02)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.tick_params(labelsize=6)
        axes.grid(which="major", color="#dddddd", linewidth=0.5)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlabel(f"{row.wait} (s)", fontsize=7)
    panels[0].set_ylabel("share of requests", fontsize=7)


def _draw(
    axes: "Axes",
    curve: Curve,
    colour: str,
    dashes: "str | tuple[int, tuple[float, ...]]",
    label: str,
    edges_s: tuple[float, float],
) -> None:
    left_s, right_s = edges_s
    last = curve.shares[-1] if curve.shares else 0.0
    axes.step(
        [left_s, *(max(left_s, value) for value in curve.latency_s), right_s],
        [0.0, *curve.shares, last],
        where="post",
        color=colour,
        linestyle=dashes,
        linewidth=1.2,
        label=label,
    )
