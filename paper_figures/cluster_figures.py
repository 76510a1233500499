"""Figures 10, 11, 12a, 12b and a sweep of the DRAM pool: startup latency of whole systems."""

from matplotlib.figure import Figure

from paper_figures.marks import draw_bars, draw_line, mark_published
from paper_figures.picture import Picture
from paper_figures.published import FIGURE_10, SYSTEMS
from paper_figures.results import Results
from paper_figures.style import NAMES, add_legend, new_figure, style_axes

MODELS = ("opt_6_7b", "opt_13b", "opt_30b")
LATENCY = "mean startup latency (s)"


def figure_10(results: Results) -> Figure:
    """Draw a bar per model and system, a panel per data set."""
    figure = new_figure(2.6, columns=2)
    panels = figure.subplots(1, 2, sharey=True)
    width = 0.8 / len(SYSTEMS)
    for axes, dataset in zip(panels, ("gsm8k", "sharegpt"), strict=True):
        for position, policy in enumerate(SYSTEMS):
            at = [index + (position - 1) * width for index in range(len(MODELS))]
            cells = [{"model": m, "dataset": dataset, "policy": policy} for m in MODELS]
            draw_bars(
                axes=axes,
                at=at,
                width=width,
                policy=policy,
                ours=[results.estimate("mean_s", **cell) for cell in cells],
            )
            for x, model in zip(at, MODELS, strict=True):
                value = FIGURE_10[model, dataset][position]
                mark_published(axes, x, value, "X" if value == 89.8 else "Q")
        axes.set_xticks(range(len(MODELS)), [NAMES[model] for model in MODELS])
        style_axes(axes, "", LATENCY if dataset == "gsm8k" else "", log=True)
        axes.set_title(NAMES[dataset], fontsize=8)
    add_legend(figure, panels[0], columns=4)
    return figure


def _sweep(
    results: Results, label: str, values: tuple[str, ...], policies: tuple[str, ...], xlabel: str
) -> Figure:
    figure = new_figure()
    axes = figure.add_subplot()
    for policy in policies:
        cells = [{label: value, "policy": policy} for value in values]
        ours = [results.estimate("mean_s", **cell) for cell in cells]
        draw_line(axes, [float(value) for value in values], policy, ours)
    axes.set_xticks([float(value) for value in values], list(values))
    style_axes(axes, xlabel, LATENCY, log=True)
    return figure


def figure_11(results: Results) -> Figure:
    """Draw the latency over the request rate."""
    figure = _sweep(
        results=results,
        label="rps",
        values=("0.2", "0.5", "0.8", "1.1"),
        policies=SYSTEMS,
        xlabel="requests per second",
    )
    add_legend(figure, figure.axes[0])
    return figure


def figure_12a(results: Results) -> Figure:
    """Draw the latency over the GPUs of a node."""
    policies = ("ray_serve_cache", "serverlessllm")
    figure = _sweep(
        results=results,
        label="gpus",
        values=("1", "2", "3", "4"),
        policies=policies,
        xlabel="GPUs per node",
    )
    mark_published(figure.axes[0], 1, 4.0, "Q")
    mark_published(figure.axes[0], 4, 12.0, "X")
    add_legend(figure, figure.axes[0])
    return figure


def figure_12b(results: Results) -> Figure:
    """Draw the latency over the number of models."""
    figure = _sweep(
        results=results,
        label="models",
        values=("16", "32", "48", "64"),
        policies=SYSTEMS,
        xlabel="models (OPT-6.7B)",
    )
    for at, value in ((16, 25.0), (64, 30.0), (16, 15.0), (64, 70.0)):
        mark_published(figure.axes[0], at, value, "X")
    add_legend(figure, figure.axes[0])
    return figure


def dram_pool(results: Results) -> Figure:
    """Draw ServerlessLLM and random placement over the DRAM pool, a panel per model."""
    figure = new_figure(2.2, columns=2)
    panels = figure.subplots(1, len(MODELS))
    sizes = ("64", "128", "256", "512")
    for axes, model in zip(panels, MODELS, strict=True):
        for policy in ("serverless", "serverlessllm"):
            cells = [{"model": model, "policy": policy, "pool_gb": size} for size in sizes]
            ours = [results.estimate("mean_s", **cell) for cell in cells]
            draw_line(axes, list(range(len(sizes))), policy, ours)
        axes.set_xticks(range(len(sizes)), sizes)
        axes.set_ylim(bottom=0)
        style_axes(axes, "DRAM pool per server (GB)", LATENCY if model == MODELS[0] else "")
        axes.set_title(NAMES[model], fontsize=8)
    add_legend(figure, panels[0])
    return figure


PICTURES = (
    Picture("fig10", "Whole systems", "fig10", figure_10),
    Picture("fig10_single", "Whole systems, one request per instance", "fig10_single", figure_10),
    Picture("fig11", "Over the request rate", "fig11", figure_11),
    Picture("fig12a", "Over the GPUs per node", "fig12a", figure_12a),
    Picture("fig12b", "Over the number of models", "fig12b", figure_12b),
    Picture("dram", "Over the size of the DRAM pool", "dram", dram_pool),
)
