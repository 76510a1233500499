"""Figures 6a, 6b, 7 and LoRA, the platforms, and the phases of a cold start.

Plain bars of 6a, 6b and LoRA follow from the hardware model: bytes over the bandwidth share that
the paper's figure 6b gives a loader. They show that sizes and shares fit together, not that a
loader reaches them. Hatched bars to their right are measured, if such results are stored.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures.marks import draw_bars, mark_published
from paper_figures.picture import Picture
from paper_figures.published import BANDWIDTH_USE, LOADING_S, LORA_S, STEPS
from paper_figures.results import Results
from paper_figures.statistics import Estimate, estimate
from paper_figures.style import (
    BLACK,
    BLUE,
    COLOURS,
    GREY,
    NAMES,
    ORANGE,
    PINK,
    RED,
    SKY,
    add_legend,
    new_figure,
    style_axes,
)

LOADERS = ("pytorch", "safetensors", "serverlessllm")
LABELS: Mapping[str, str] = {"opt": "OPT", "llama": "LLaMA", "falcon": "Falcon"}
PHASE_COLOURS: Mapping[str, str] = {
    "provision": GREY,
    "engine_init": SKY,
    "transfer": BLUE,
    "graph": ORANGE,
    "warmup": PINK,
}


def _exact(value: float) -> Estimate:
    return Estimate(value, value, value)


def _origin(axes: Axes, results: Results) -> None:
    measured = _measured(results)
    text = f"{results.plain['origin']}, not measured"
    if measured:
        on = f"{measured['machine']['num_cpus']} CPUs, {', '.join(measured['media'])}"
        text = f"plain: {results.plain['origin']}; hatched: measured ({on})"
    axes.set_title(text, fontsize=7, color=RED, loc="right")


def _measured(results: Results) -> Mapping[str, Any]:
    """Return the results of `experiments.loading`; empty if none are stored."""
    return results.plain.get("measured") or {}


def _measured_bar(axes: Axes, at: float, width: float, loader: str, values: list[float]) -> None:
    """Draw the median of all rounds, with its 95 % interval."""
    ours = estimate(values)
    axes.bar(
        [at],
        [ours.value],
        width,
        yerr=[[ours.value - ours.low], [ours.high - ours.value]],
        color=COLOURS[loader],
        hatch="////",
        edgecolor="white",
        label=f"{NAMES[loader]}, measured",
        error_kw={"elinewidth": 0.7, "capsize": 1.5, "ecolor": "#444444"},
    )


def _model_label(model: str) -> str:
    family, *rest = model.split("-")
    return "\n".join((LABELS[family], "-".join(rest).upper()))


def figure_6a(results: Results) -> Figure:
    """Draw the loading time per model and loader."""
    models = list(results.plain["size_bytes"])
    measured = _measured(results).get("seconds", {})
    ours = list(dict.fromkeys(model for of in measured.values() for model in of))
    figure = new_figure(2.4, columns=2)
    axes = figure.add_subplot()
    for position, loader in enumerate(LOADERS):
        at = [index + (position - 1) * 0.27 for index in range(len(models))]
        seconds = results.plain["seconds"][loader]
        draw_bars(
            axes=axes,
            at=at,
            width=0.27,
            policy=loader,
            ours=[_exact(seconds[model]) for model in models],
        )
        for x, model in zip(at, models, strict=True):
            if model in LOADING_S:
                grade = "Q" if model in ("opt-2.7b", "llama-2-70b") else "M"
                mark_published(axes, x, LOADING_S[model][position], grade)
        for index, model in enumerate(ours, start=len(models)):
            if values := measured[loader].get(model):
                _measured_bar(
                    axes=axes,
                    at=index + (position - 1) * 0.27,
                    width=0.27,
                    loader=loader,
                    values=values,
                )
    labels = [*map(_model_label, models), *(model.replace("-", "\n", 1) for model in ours)]
    axes.set_xticks(range(len(labels)), labels)
    style_axes(axes, "", "loading time (s)", log=True)
    _origin(axes, results)
    add_legend(figure, axes, columns=4)
    return figure


def figure_6b(results: Results) -> Figure:
    """Draw the share of each medium's bandwidth that a loader uses."""
    use = results.plain["bandwidth_use"]
    media = list(use["pytorch"])
    measured = _measured(results).get("bandwidth_use", {})
    ours = list(dict.fromkeys(medium for of in measured.values() for medium in of))
    figure = new_figure(2.6, columns=2)
    axes = figure.add_subplot()
    for position, loader in enumerate(LOADERS):
        at = [index + (position - 1) * 0.27 for index in range(len(media))]
        draw_bars(
            axes=axes,
            at=at,
            width=0.27,
            policy=loader,
            ours=[_exact(use[loader][medium]) for medium in media],
        )
        for x, medium in zip(at, media, strict=True):
            if (loader, medium) in BANDWIDTH_USE:
                mark_published(axes, x, BANDWIDTH_USE[loader, medium], "Q")
        for index, medium in enumerate(ours, start=len(media)):
            if values := measured[loader].get(medium):
                _measured_bar(
                    axes=axes,
                    at=index + (position - 1) * 0.27,
                    width=0.27,
                    loader=loader,
                    values=values,
                )
    axes.set_xticks(
        range(len(media) + len(ours)),
        [medium.replace("-", "-\n").replace(" ", "\n") for medium in (*media, *ours)],
    )
    axes.set_ylim(0, 1.15)
    style_axes(axes, "", "share of bandwidth")
    _origin(axes, results)
    add_legend(figure, axes)
    return figure


def figure_7(results: Results) -> Figure:
    """Draw the gain of each step over the previous one: published, and measured if stored."""
    figure = new_figure()
    axes = figure.add_subplot()
    ours = _measured(results).get("gains", {})
    for index, (step, gain) in enumerate(STEPS.items()):
        if step in ours:
            axes.bar([index], [ours[step]], 0.6, color=BLUE, label="measured")
        mark_published(axes, index, gain, "Q" if index else "")
    axes.set_xticks(range(len(STEPS)), list(STEPS), rotation=20)
    axes.set_ylim(0, 2.8)
    style_axes(axes, "", "gain over the step before")
    if not ours:
        axes.set_title("published only: no measured results are stored", fontsize=7, color=RED)
    add_legend(figure, axes)
    return figure


def lora(results: Results) -> Figure:
    """Draw the time of loading a 1 GB adapter."""
    seconds = results.plain["lora_seconds"]
    figure = new_figure(2.0)
    axes = figure.add_subplot()
    for index, loader in enumerate(LOADERS):
        draw_bars(
            axes=axes, at=[index], width=0.6, policy=loader, ours=[_exact(1e3 * seconds[loader])]
        )
        if loader in LORA_S:
            mark_published(axes, index, 1e3 * LORA_S[loader], "Q")
        if values := _measured(results).get("lora_seconds", {}).get(loader):
            _measured_bar(
                axes=axes,
                at=index + 3.5,
                width=0.6,
                loader=loader,
                values=[1e3 * value for value in values],
            )
    shown = 2 if _measured(results) else 1
    axes.set_xticks(
        [index + 3.5 * side for side in range(shown) for index in range(len(LOADERS))],
        [NAMES[loader] for loader in LOADERS] * shown,
        rotation=20,
    )
    style_axes(axes, "", "loading a 1 GB adapter (ms)")
    _origin(axes, results)
    return figure


def platforms(results: Results) -> Figure:
    """Draw the time to the first token when nearly all requests find their model cold."""
    names = ("kserve", "kserve_enhanced", "managed_endpoint", "ray_serve", "serverlessllm")
    figure = new_figure(2.2)
    axes = figure.add_subplot()
    for index, policy in enumerate(names):
        ours = results.estimate("ttft_p50_s", policy=policy)
        draw_bars(axes=axes, at=[index], width=0.6, policy=policy, ours=[ours])
        value = {"kserve": 128.0, "kserve_enhanced": 28.0}.get(policy)
        if value is not None:
            mark_published(axes, index, value, "M")
    labels = [NAMES[name].replace(", ", ",\n").replace(" ", "\n") for name in names]
    axes.set_xticks(range(len(names)), labels)
    style_axes(axes, "", "first token, median (s)", log=True)
    return figure


def phases(results: Results) -> Figure:
    """Draw the phases of a cold start by preset; overlapped phases are on a second row."""
    presets = results.plain["presets"]
    figure = new_figure(2.8)
    axes = figure.add_subplot()
    names = sorted(presets, key=lambda name: -presets[name]["startup_s"])
    for lane, name in enumerate(names):
        _bar_of_phases(axes, lane, presets[name]["phases"], results.plain["transfer_s"])
    axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    style_axes(axes, "seconds (OPT-6.7B from SSD)", "")
    axes.grid(visible=False)
    axes.set_title("published figures, not measured", fontsize=7, color=RED, loc="right")
    add_legend(figure, axes, columns=3)
    return figure


def _bar_of_phases(
    axes: Axes, lane: int, rows: Sequence[Mapping[str, str | float]], transfer_s: float
) -> None:
    """Draw the phases before, the transfer above the overlapped phases, and the phases after."""

    def put(kind: str, left_s: float, seconds: float, height: float, shift: float) -> None:
        axes.barh(
            *(lane + shift, seconds, height),
            left=left_s,
            color=PHASE_COLOURS[kind],
            edgecolor="white",
            linewidth=0.3,
            label=kind.replace("_", " "),
        )

    at_s = 0.0
    for row in rows:
        if row["order"] == "before":
            put(str(row["kind"]), at_s, float(row["seconds"]), 0.8, 0.0)
            at_s += float(row["seconds"])
    overlapped = [row for row in rows if row["order"] == "overlapped"]
    put("transfer", at_s, transfer_s, 0.4 if overlapped else 0.8, 0.2 if overlapped else 0.0)
    end_s = at_s
    for row in overlapped:
        put(str(row["kind"]), end_s, float(row["seconds"]), 0.4, -0.2)
        end_s += float(row["seconds"])
    at_s = max(at_s + transfer_s, end_s)
    for row in rows:
        if row["order"] == "after":
            put(str(row["kind"]), at_s, float(row["seconds"]), 0.8, 0.0)
            at_s += float(row["seconds"])
    axes.text(at_s + 0.3, lane, f"{at_s:.1f}", fontsize=6, va="center", color=BLACK)


PICTURES = (
    Picture("fig6a", "Loading time", "loaders", figure_6a),
    Picture("fig6b", "Use of the storage's bandwidth", "loaders", figure_6b),
    Picture("fig7", "Steps of the loader", "loaders", figure_7),
    Picture("lora", "Loading a LoRA adapter", "loaders", lora),
    Picture("kserve", "First token on other platforms", "kserve", platforms),
    Picture("phases", "Phases of a cold start", "phases", phases),
)
