"""The search figure: figure 10 at many points of what the paper leaves open."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from math import log2
from statistics import mean, median
from typing import Any

from matplotlib.figure import Figure

from paper_figures.published import FIGURE_10, SYSTEMS
from paper_figures.results import Results
from paper_figures.statistics import FIRM_RATIO, LOOSE_RATIO, ratio_band
from paper_figures.style import BLUE, GREEN, RED, dress, legend, new_figure

PARAMETERS = ("rps", "alpha", "slots", "pool_gb", "cv")
_STYLES = {"2": ("^", GREEN), "4": ("s", BLUE), "8": ("o", RED)}  # by CV
_SAME = 1.05  # published values that differ by less are in no order


@dataclass(frozen=True, slots=True)
class Point:
    """How near one set of parameters comes to figure 10's 18 cells, medians over its seeds.

    Attributes:
        distance: Mean of |log2(ours / published)|: 1 is a factor of 2.
        num_in_order: Of the six columns, those whose systems are in the published order.
    """

    parameters: Mapping[str, str]
    distance: float
    num_within_25: int
    num_within_2x: int
    num_in_order: int


def search_points(results: Results) -> Iterator[Point]:
    """All of them, in the order of the runs."""
    found: dict[tuple[str, ...], dict[tuple[str, str, str], list[float]]] = {}
    for row in results.plain["runs"]:
        labels: Mapping[str, Any] = row["labels"]
        at = tuple(labels[name] for name in PARAMETERS)
        cell = (labels["model"], labels["dataset"], labels["policy"])
        found.setdefault(at, {}).setdefault(cell, []).append(row["measured"]["mean_s"])
    for at, cells in found.items():
        ours = {cell: median(values) for cell, values in cells.items()}
        yield _point(dict(zip(PARAMETERS, at, strict=True)), ours)


def _point(parameters: Mapping[str, str], ours: Mapping[tuple[str, str, str], float]) -> Point:
    cells = [
        (ours[(*column, policy)], value)
        for column, values in FIGURE_10.items()
        for policy, value in zip(SYSTEMS, values, strict=True)
    ]
    return Point(
        parameters,
        mean(abs(log2(value / published)) for value, published in cells),
        sum(value in ratio_band(published, FIRM_RATIO) for value, published in cells),
        sum(value in ratio_band(published, LOOSE_RATIO) for value, published in cells),
        sum(
            _in_order([ours[(*column, policy)] for policy in SYSTEMS], values)
            for column, values in FIGURE_10.items()
        ),
    )


def _in_order(ours: list[float], published: tuple[float, ...]) -> bool:
    return all(
        (ours[a] > ours[b]) == (published[a] > published[b])
        for a, b in combinations(range(len(ours)), 2)
        if max(published[a], published[b]) > _SAME * min(published[a], published[b])
    )


def search(results: Results) -> Figure:
    """Points by their distance and the cells within 25 %; filled: all columns in order."""
    figure = new_figure(2.6)
    axes = figure.add_subplot()
    points = list(search_points(results))
    for cv, (marker, colour) in _STYLES.items():
        for whole in (True, False):
            some = [
                point
                for point in points
                if point.parameters["cv"] == cv and (point.num_in_order == len(FIGURE_10)) is whole
            ]
            axes.plot(
                [point.distance for point in some],
                [point.num_within_25 for point in some],
                marker,
                markersize=4.5,
                color=colour,
                markerfacecolor=colour if whole else "none",
                label=f"CV {cv}, {'all in order' if whole else 'not all in order'}",
            )
    axes.set_ylim(-0.5, 18.5)
    axes.set_yticks(range(0, 19, 3))
    axes.set_xlim(left=0)
    axes.axhline(18, color="#444444", linewidth=0.7, linestyle=":")
    dress(axes, "mean |log2(ours / published)| of 18 cells", "cells of figure 10 within 25 %")
    legend(figure, axes)
    return figure
