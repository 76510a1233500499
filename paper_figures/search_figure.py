"""The search figures: figures 10, 8 and 11 at many values of the unpublished parameters."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import log2
from statistics import mean, median
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator

from paper_figures.picture import Picture
from paper_figures.published import FIGURE_8_P99, FIGURE_10, SYSTEMS
from paper_figures.results import Results
from paper_figures.statistics import FIRM_RATIO, LOOSE_RATIO, ratio_band
from paper_figures.style import BLUE, GREEN, RED, add_legend, new_figure, style_axes

PARAMETERS = ("rps", "alpha", "slots", "pool_gb", "cv")
_STYLES = {"2": ("^", GREEN), "4": ("s", BLUE), "8": ("o", RED)}  # by CV
# The parameters of a point and two ratios of its results.
_Pair = tuple[Mapping[str, str], float, float]
_SAME = 1.05  # published values within this ratio count as equal


def _medians(
    results: Results, measure: str, names: Sequence[str]
) -> Iterator[tuple[Mapping[str, str], Mapping[tuple[str, ...], float]]]:
    """Yield each point in the order of the runs: its parameters, and the medians of its cells.

    Args:
        names: The labels that identify a cell.
    """
    found: dict[tuple[str, ...], dict[tuple[str, ...], list[float]]] = {}
    parameters = [name for name in PARAMETERS if name not in names]
    for row in results.plain["runs"]:
        labels: Mapping[str, Any] = row["labels"]
        at = tuple(labels[name] for name in parameters)
        cell = tuple(labels[name] for name in names)
        found.setdefault(at, {}).setdefault(cell, []).append(row["measured"][measure])
    for at, cells in found.items():
        ours = {cell: median(values) for cell, values in cells.items()}
        yield dict(zip(parameters, at, strict=True)), ours


@dataclass(frozen=True, slots=True)
class Point:
    """The distance of a point from the 18 cells of figure 10, by medians over its seeds.

    Attributes:
        distance: Mean of |log2(ours / published)|; 1 is a factor of 2.
        num_in_order: Number of the six columns with the systems in the published order.
    """

    parameters: Mapping[str, str]
    distance: float
    num_within_25: int
    num_within_2x: int
    num_in_order: int


def search_points(results: Results) -> Iterator[Point]:
    """Yield all points in the order of the runs."""
    for parameters, ours in _medians(results, "mean_s", ("model", "dataset", "policy")):
        yield _point(parameters, ours)


def _point(parameters: Mapping[str, str], ours: Mapping[tuple[str, ...], float]) -> Point:
    cells = [
        (ours[(*column, policy)], value)
        for column, values in FIGURE_10.items()
        for policy, value in zip(SYSTEMS, values, strict=True)
    ]
    return Point(
        parameters=parameters,
        distance=mean(abs(log2(value / published)) for value, published in cells),
        num_within_25=sum(value in ratio_band(published, FIRM_RATIO) for value, published in cells),
        num_within_2x=sum(
            value in ratio_band(published, LOOSE_RATIO) for value, published in cells
        ),
        num_in_order=sum(
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
    """Draw points by distance and cells within 25 %; filled: all columns in order."""
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
    style_axes(axes, "mean |log2(ours / published)| of 18 cells", "cells of figure 10 within 25 %")
    add_legend(figure, axes)
    return figure


def _scatter(axes: Axes, points: Sequence[_Pair]) -> None:
    """Draw points by their two ratios, with a marker per CV."""
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_formatter("")
    for cv, (marker, colour) in _STYLES.items():
        some = [(x, y) for parameters, x, y in points if parameters["cv"] == cv]
        axes.plot(
            [x for x, _ in some],
            [y for _, y in some],
            marker,
            markersize=4.5,
            color=colour,
            markerfacecolor="none",
            label=f"CV {cv}",
        )


def scheduler_ratios(results: Results) -> list[_Pair]:
    """Return for each point the median P99 of Shepherd* and Serverless over ServerlessLLM's."""
    return [
        (
            parameters,
            ours[("shepherd",)] / ours[("serverlessllm",)],
            ours[("serverless",)] / ours[("serverlessllm",)],
        )
        for parameters, ours in _medians(results, "p99_s", ("policy",))
    ]


def search_fig8(results: Results) -> Figure:
    """Draw points by the two ratios; the box is within 25 % of both published ones."""
    figure = new_figure(2.9)
    axes = figure.add_subplot()
    bands = [ratio_band(FIGURE_8_P99[policy], FIRM_RATIO) for policy in ("shepherd", "serverless")]
    corner, opposite = [band.low for band in bands], [band.high for band in bands]
    size = [high - low for low, high in zip(corner, opposite, strict=True)]
    axes.add_patch(Rectangle((corner[0], corner[1]), *size, color="#dddddd", label="published"))
    style_axes(
        axes, "P99 of Shepherd* / ServerlessLLM", "P99 of Serverless / ServerlessLLM", log=True
    )
    _scatter(axes, scheduler_ratios(results))
    add_legend(figure, axes)
    return figure


def growths(results: Results) -> list[_Pair]:
    """Return for each point the mean at 1.1/s over that at 0.2/s, for two systems.

    The systems are ServerlessLLM and Ray Serve with Cache.
    """
    return [
        (
            parameters,
            ours[("serverlessllm", "1.1")] / ours[("serverlessllm", "0.2")],
            ours[("ray_serve_cache", "1.1")] / ours[("ray_serve_cache", "0.2")],
        )
        for parameters, ours in _medians(results, "mean_s", ("policy", "rps"))
    ]


def search_fig11(results: Results) -> Figure:
    """Draw points by both growths; a flat line and a knee, as published, are at the upper left."""
    figure = new_figure(2.6)
    axes = figure.add_subplot()
    style_axes(
        axes, "ServerlessLLM, mean at 1.1/s over 0.2/s", "Ray Serve w/ Cache, the same", log=True
    )
    _scatter(axes, growths(results))
    add_legend(figure, axes)
    return figure


PICTURES = (
    Picture("search", "Figure 10 over the unpublished parameters", "search", search),
    Picture(
        "search_fig8",
        "Figure 8's ratios over the unpublished parameters",
        "search_fig8",
        search_fig8,
    ),
    Picture(
        "search_fig11",
        "Figure 11's ends over the unpublished parameters",
        "search_fig11",
        search_fig11,
    ),
)
