"""The picture of a trace: load over time, burstiness, gaps, popularity, lengths."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from traces.atomic_file import atomic_path
from traces.statistics import LengthCounts, TraceStatistics, index_of_dispersion

_MAX_LOAD_POINTS = 2000
_WINDOWS_S = (1, 2, 5, 10, 20, 60, 120, 300, 600, 1800, 3600)
_BLUE, _ORANGE = "#1f5fa8", "#d1690e"


def draw(title: str, found: TraceStatistics, folder: Path, stem: str) -> list[Path]:
    """Write `stem.png` and `stem.pdf` into `folder`, atomically; return their paths."""
    figure = Figure(figsize=(10, 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    axes = figure.subplot_mosaic("LL;DG;PT")
    _draw_load(axes["L"], found)
    _draw_dispersion(axes["D"], found)
    _draw_gaps(axes["G"], found)
    _draw_popularity(axes["P"], found)
    _draw_lengths(axes["T"], (("input", found.inputs), ("output", found.outputs)))
    for each in axes.values():
        each.minorticks_off()  # minor ticks take a third of the drawing time
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.execute(figure)
    figure.set_layout_engine("none")  # one layout serves both files
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for suffix in ("png", "pdf"):
        path = folder / f"{stem}.{suffix}"
        # Without dates the same trace gives the same bytes.
        metadata = {"CreationDate": None} if suffix == "pdf" else None
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format=suffix, dpi=150, metadata=metadata)
        written.append(path)
    return written


def _draw_load(axes: Axes, found: TraceStatistics) -> None:
    window_s = max(1, round(found.seconds.span_s / _MAX_LOAD_POINTS))
    if found.seconds.span_s >= 1200:
        window_s = max(10, window_s)
    rates = found.seconds.per_window(window_s) / window_s
    unit, length_s = _time_unit(found.seconds.span_s)
    axes.step(np.arange(len(rates)) * window_s / length_s, rates, where="post", color=_BLUE, lw=0.8)
    axes.set(xlabel=f"time, {unit}", ylabel=f"requests/s over {window_s} s")
    axes.set_ylim(bottom=0)
    axes.margins(x=0.01)


def _time_unit(span_s: float) -> tuple[str, float]:
    for unit, length_s in (("days", 86_400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if span_s >= 2 * length_s:
            return unit, length_s
    return "s", 1.0


def _draw_dispersion(axes: Axes, found: TraceStatistics) -> None:
    values = [
        (window_s, index_of_dispersion(found.seconds.per_window(window_s)))
        for window_s in _WINDOWS_S
    ]
    points = [(window_s, value) for window_s, value in values if value]
    axes.axhline(1.0, color="grey", lw=0.8, ls="--", label="Poisson")
    axes.plot([w for w, _ in points], [v for _, v in points], "o-", color=_BLUE, ms=4)
    axes.set(xscale="log", yscale="log", xlabel="window, s", ylabel="index of dispersion")
    axes.legend(frameon=False)


def _draw_gaps(axes: Axes, found: TraceStatistics) -> None:
    gaps_s, above = found.gaps.survival()
    shown = above > 0
    axes.plot(gaps_s[shown], above[shown], color=_BLUE, label="trace")
    if found.gaps.num and shown.any():
        grid = np.geomspace(gaps_s[shown][0], gaps_s[shown][-1], 200)
        poisson = np.exp(-grid / found.gaps.mean_s)
        axes.plot(grid, poisson, color="grey", lw=0.8, ls="--", label="Poisson of the same rate")
        axes.set_ylim(0.5 / found.gaps.num, 1.5)
    axes.set(xscale="log", yscale="log", xlabel="gap, s", ylabel="fraction of gaps above")
    axes.legend(frameon=False)


def _draw_popularity(axes: Axes, found: TraceStatistics) -> None:
    calls = np.sort(np.array(list(found.calls.values()), np.float64))[::-1]
    if len(calls) < 2:
        axes.text(0.5, 0.5, "the trace names no models", ha="center", transform=axes.transAxes)
        axes.set_axis_off()
        return
    axes.plot(np.arange(1, len(calls) + 1), calls / calls.sum(), ".-", color=_BLUE, ms=3)
    axes.set(xscale="log", yscale="log", xlabel="rank", ylabel="share of requests")


def _draw_lengths(axes: Axes, sides: Sequence[tuple[str, LengthCounts]]) -> None:
    drawn = False
    for (side, counts), colour in zip(sides, (_BLUE, _ORANGE), strict=True):
        if not counts.num:
            continue
        values = np.flatnonzero(counts.counts)
        below = np.cumsum(counts.counts)[values] / counts.num
        axes.step(np.maximum(values, 1), below, where="post", color=colour, label=side)
        drawn = True
    if not drawn:
        axes.text(0.5, 0.5, "the trace has no lengths", ha="center", transform=axes.transAxes)
        axes.set_axis_off()
        return
    axes.set(xscale="log", xlabel="tokens", ylabel="fraction of requests")
    axes.set_ylim(0, 1.02)
    axes.legend(frameon=False, loc="upper left")
