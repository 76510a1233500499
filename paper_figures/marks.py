"""Marks in a figure: bars and lines with 95 % intervals, and published numbers."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from paper_figures.statistics import Estimate
from paper_figures.style import BLACK, COLOURS, MARKERS, NAMES


def draw_bars(
    axes: Axes, at: Sequence[float], width: float, policy: str, ours: list[Estimate]
) -> None:
    """Draw a bar per estimate."""
    axes.bar(
        at,
        [each.value for each in ours],
        width,
        yerr=_spread(ours) if any(each.high > each.low for each in ours) else None,
        color=COLOURS[policy],
        label=NAMES[policy],
        error_kw={"elinewidth": 0.7, "capsize": 1.5, "ecolor": "#444444"},
    )


def draw_line(axes: Axes, at: Sequence[float], policy: str, ours: list[Estimate]) -> None:
    """Draw a line through the estimates."""
    axes.errorbar(
        at,
        [each.value for each in ours],
        yerr=_spread(ours),
        color=COLOURS[policy],
        marker=MARKERS.get(policy, "o"),
        markersize=4,
        linewidth=1.2,
        elinewidth=0.7,
        capsize=1.5,
        label=NAMES[policy],
    )


def mark_published(axes: Axes, at: float, value: float, grade: str) -> None:
    """Draw a dash at a published number, with its grade."""
    axes.plot(
        [at],
        [value],
        "_",
        color=BLACK,
        markersize=9,
        markeredgewidth=1.4,
        label="published (grade)",
    )
    axes.annotate(
        grade,
        (at, value),
        xytext=(0, 3),
        textcoords="offset points",
        fontsize=6,
        ha="center",
        va="bottom",
        bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"},
    )


def _spread(ours: list[Estimate]) -> list[list[float]]:
    return [[e.value - e.low for e in ours], [e.high - e.value for e in ours]]
