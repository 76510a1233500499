"""Figures 3, 8 and 9, the readings of CV 8, and the errors of the loading estimate."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures.marks import draw_bars
from paper_figures.picture import Picture
from paper_figures.results import Results
from paper_figures.style import (
    BLUE,
    COLOURS,
    DASHES,
    GREEN,
    GREY,
    NAMES,
    ORANGE,
    RED,
    SKY,
    add_legend,
    new_figure,
    style_axes,
)

SCHEDULERS = ("serverless", "shepherd", "serverlessllm")
LEFT_S = 0.1  # left edge of the axis of a CDF; smaller latencies are drawn there
MODEL_COLOURS = {"A": BLUE, "B": RED, "C": GREY}


def figure_3(results: Results) -> Figure:
    """Draw two servers under four policies: loading hatched, inference filled."""
    timelines = results.plain["timelines"]
    figure = new_figure(3.6)
    panels = figure.subplots(len(timelines), 1, sharex=True)
    for axes, (policy, rows) in zip(panels, timelines.items(), strict=True):
        _timeline(axes, rows)
        axes.set_title(_title(policy, rows), fontsize=6.5, loc="left", pad=2)
    style_axes(panels[-1], "time (s); hatched: loading; dotted: B arrives", "")
    for axes in panels:
        axes.grid(visible=False)
        axes.tick_params(labelsize=7)
    return figure


def _title(policy: str, rows: Sequence[Mapping[str, Any]]) -> str:
    by_model = {row["model"]: row for row in rows if row["kind"] == "request"}
    a, b = by_model["A"], by_model["B"]
    waits_s = b["started_at_s"] - b["arrived_at_s"]
    return (
        f"{NAMES[policy]}: B waits {waits_s:.2f} s, "
        f"A pauses {a['pause_s']:.2f} s, ends at {a['ended_at_s']:.1f} s"
    )


def _timeline(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    lanes = {"server 1": 1, "server 2": 0}
    requests = {row["model"]: row for row in rows if row["kind"] == "request"}
    for row in rows:
        if row["kind"] != "instance":
            continue
        colour, lane = MODEL_COLOURS[row["model"]], lanes[row["server"]]
        loading_s = row["ready_at_s"] - row["launched_at_s"]
        axes.barh(
            lane,
            loading_s,
            left=row["launched_at_s"],
            height=0.7,
            color="white",
            edgecolor=colour,
            hatch="/////",
            linewidth=0.6,
        )
        busy_s = row["busy_s"]
        axes.barh(lane, busy_s, left=row["ready_at_s"], height=0.7, color=colour)
        middle_s = row["ready_at_s"] + busy_s / 2
        axes.text(middle_s, lane, row["model"], color="white", fontsize=7, ha="center", va="center")
    axes.axvline(requests["B"]["arrived_at_s"], color=RED, linewidth=0.8, linestyle=":")
    axes.set_yticks(list(lanes.values()), list(lanes))
    axes.set_ylim(-0.5, 1.5)


def figure_8(results: Results) -> Figure:
    """Draw CDFs: a row per data set, a column per rate."""
    rates = ("0.2", "0.8", "1.4")
    panels = [
        ({"dataset": dataset, "rps": rps}, f"{NAMES[dataset]}, RPS {rps}")
        for dataset in ("gsm8k", "sharegpt")
        for rps in rates
    ]
    return _cdfs(results, panels, len(rates))


def figure_9(results: Results) -> Figure:
    """Draw CDFs of the larger models."""
    panels = [
        ({"dataset": dataset, "model": model}, f"{NAMES[model]}, {NAMES[dataset]}")
        for dataset in ("gsm8k", "sharegpt")
        for model in ("opt_13b", "opt_30b")
    ]
    return _cdfs(results, panels, 2)


def _cdfs(
    results: Results, panels: Sequence[tuple[Mapping[str, str], str]], columns: int
) -> Figure:
    rows = len(panels) // columns
    figure = new_figure(1.6 * rows + 0.6, columns=2)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True).flatten()
    for axes, (labels, title) in zip(grid, panels, strict=True):
        for policy in SCHEDULERS:
            measured = results.measured(**labels, policy=policy)
            pooled = np.sort(np.concatenate([row["quantiles_s"] for row in measured]))
            shares = (np.arange(len(pooled)) + 1) / len(pooled)
            axes.step(
                np.maximum(pooled, LEFT_S),
                shares,
                where="post",
                color=COLOURS[policy],
                linestyle=DASHES[policy],
                linewidth=1.1,
                label=NAMES[policy],
            )
        axes.set_xscale("log")
        axes.set_xlim(LEFT_S, 300)
        axes.xaxis.set_major_formatter("{x:g}")
        style_axes(axes, "", "")
        axes.set_title(title, fontsize=7)
    for axes in grid[-columns:]:
        axes.set_xlabel("startup latency (s), with pauses", fontsize=7)
    figure.supylabel("share of requests", fontsize=8)
    add_legend(figure, grid[0], columns=3)
    return figure


def burstiness(results: Results) -> Figure:
    """Draw the P99 under several CVs, by scheduler."""
    readings = ("1", "2", "4", "8", "own", "own x 8")
    figure = new_figure(2.6)
    axes = figure.add_subplot()
    for position, policy in enumerate(SCHEDULERS):
        at = [index + (position - 1) * 0.27 for index in range(len(readings))]
        cells = [{"cv": reading, "policy": policy} for reading in readings]
        draw_bars(
            axes=axes,
            at=at,
            width=0.27,
            policy=policy,
            ours=[results.estimate("p99_s", **cell) for cell in cells],
        )
    axes.set_xticks(range(len(readings)), [name.replace("own", "own\n") for name in readings])
    style_axes(axes, "CV of the gaps of each model", "P99 startup latency (s)", log=True)
    add_legend(figure, axes, columns=3)
    return figure


def estimator(results: Results) -> Figure:
    """Draw errors of the loading estimate: 1 to 99 % of loads as a bar, the worst as a cross."""
    figure = new_figure(2.8)
    axes = figure.add_subplot()
    models = ("opt_6_7b", "opt_13b", "opt_30b")
    for offset, (tier, colour) in enumerate((("DRAM", GREEN), ("SSD", ORANGE))):
        for index, model in enumerate(models):
            rows = [row["by_tier"].get(tier) for row in results.measured(model=model)]
            known = [row for row in rows if row]
            if not known:
                continue
            at = index + (offset - 0.5) * 0.3
            low = 1e3 * min(row["p1_s"] for row in known)
            high = 1e3 * max(row["p99_s"] for row in known)
            axes.plot([at, at], [low, high], color=colour, linewidth=5, label=f"from {tier}")
            worst = 1e3 * max(row["worst_s"] for row in known)
            axes.plot([at], [worst], "x", color=colour, markersize=4, label=f"worst, from {tier}")
    axes.axhline(40, color=SKY, linewidth=0.8, linestyle="--", label="published bound, SSD (Q)")
    axes.axhline(5, color=SKY, linewidth=0.8, linestyle=":", label="published bound, 5 ms (X)")
    axes.set_xticks(range(len(models)), [NAMES[model] for model in models])
    axes.set_yscale("symlog", linthresh=1)
    style_axes(axes, "", "measured - expected transfer (ms)")
    add_legend(figure, axes, columns=2)
    return figure


PICTURES = (
    Picture("fig3", "Four policies on two servers", "fig3", figure_3),
    Picture("fig8", "Startup latency by scheduler, OPT-6.7B", "fig8", figure_8),
    Picture("fig9", "Startup latency, larger models", "fig9", figure_9),
    Picture("estimator", "Error of the loading estimate", "estimator", estimator),
    Picture("burstiness", "Readings of CV 8", "burstiness", burstiness),
)
