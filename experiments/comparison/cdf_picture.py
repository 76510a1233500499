"""The picture of the CDFs of startup latency, a column of a paper wide."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.comparison.curves import Curve, left_edge_s, right_edge_s

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, distinct with any colour vision; without yellow, too light for lines
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (3, 1)))
WIDTH_IN, HEIGHT_IN = 3.4, 2.9
FORMATS = ("png", "pdf")


def draw_cdf(curves: Sequence[Curve], folder: Path, stem: str) -> list[Path]:
    """Draw the curves, write STEM.png and STEM.pdf, and return their paths."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    edge_s, end_s = left_edge_s(curves), right_edge_s(curves)
    for index, curve in enumerate(curves):
        _draw_curve(axes, curve, index, (edge_s, end_s))
    _style_axes(axes, edge_s, end_s)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=2,
        fontsize=7,
        frameon=False,
        handlelength=2.6,
        columnspacing=1.2,
    )
    return save_picture(figure, folder, stem)


def save_picture(figure: "Figure", folder: Path, stem: str) -> list[Path]:
    """Write a figure as STEM.png and STEM.pdf; return their paths."""
    paths = [folder / f"{stem}.{kind}" for kind in FORMATS]
    for path in paths:
        # no date: equal results give equal files
        metadata = {"CreationDate": None} if path.suffix == ".pdf" else {}
        figure.savefig(path, dpi=300, metadata=metadata)
    return paths


def _draw_curve(axes: "Axes", curve: Curve, index: int, edges_s: tuple[float, float]) -> None:
    colour = COLOURS[index % len(COLOURS)]
    lost = f" ({100 * curve.never_started:.1f} % never)" if curve.never_started else ""
    edge_s, end_s = edges_s
    latency_s = [max(edge_s, value) for value in curve.latency_s]
    last = curve.shares[-1] if curve.shares else 0.0
    axes.step(
        [edge_s, *latency_s, end_s],
        [0.0, *curve.shares, last],
        where="post",
        color=colour,
        linestyle=DASHES[index % len(DASHES)],
        linewidth=1.2,
        label=curve.label + lost,
    )
    if curve.never_started and curve.latency_s:
        axes.plot(latency_s[-1], curve.shares[-1], "x", color=colour, markersize=4)


def _style_axes(axes: "Axes", left_s: float, right_s: float) -> None:
    axes.set_xscale("log")
    axes.set_xlim(left_s, right_s)
    axes.set_ylim(0, 1.02)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel(f"startup latency (s); the left edge is {left_s:g} s or less", fontsize=8)
    axes.set_ylabel("share of requests", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.grid(which="major", color="#dddddd", linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)
