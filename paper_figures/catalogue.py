"""All figures: what each shows, which results it needs, who draws it."""

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure

from paper_figures import (
    cluster_figures,
    loading_figures,
    regret_figure,
    scheduler_figures,
    search_figure,
)
from paper_figures.results import Results


@dataclass(frozen=True, slots=True)
class Picture:
    """One figure.

    Args:
        stem: Of its files.
        results: Whose results it draws.
    """

    stem: str
    title: str
    results: str
    draw: Callable[[Results], Figure]


PICTURES = (
    Picture("fig3", "Four policies on two servers", "fig3", scheduler_figures.figure_3),
    Picture("fig6a", "Loading time", "loaders", loading_figures.figure_6a),
    Picture("fig6b", "Use of the storage's bandwidth", "loaders", loading_figures.figure_6b),
    Picture("fig7", "Steps of the loader", "loaders", loading_figures.figure_7),
    Picture("lora", "Loading a LoRA adapter", "loaders", loading_figures.lora),
    Picture("fig8", "Startup latency by scheduler, OPT-6.7B", "fig8", scheduler_figures.figure_8),
    Picture("fig9", "Startup latency, larger models", "fig9", scheduler_figures.figure_9),
    Picture("fig10", "Whole systems", "fig10", cluster_figures.figure_10),
    Picture(
        "fig10_single",
        "Whole systems, one request per instance",
        "fig10_single",
        cluster_figures.figure_10,
    ),
    Picture("fig11", "Over the request rate", "fig11", cluster_figures.figure_11),
    Picture("fig12a", "Over the GPUs per node", "fig12a", cluster_figures.figure_12a),
    Picture("fig12b", "Over the number of models", "fig12b", cluster_figures.figure_12b),
    Picture("estimator", "Error of the loading estimate", "estimator", scheduler_figures.estimator),
    Picture("kserve", "First token on other platforms", "kserve", loading_figures.platforms),
    Picture("dram", "Over the size of the DRAM pool", "dram", cluster_figures.dram_pool),
    Picture("burstiness", "Readings of CV 8", "burstiness", scheduler_figures.burstiness),
    Picture("regret", "Cost beside what is possible", "regret", regret_figure.regret),
    Picture("search", "Figure 10 over what the paper leaves open", "search", search_figure.search),
    Picture(
        "search_fig8",
        "Figure 8's ratios over what the paper leaves open",
        "search_fig8",
        search_figure.search_fig8,
    ),
    Picture(
        "search_fig11",
        "Figure 11's ends over what the paper leaves open",
        "search_fig11",
        search_figure.search_fig11,
    ),
    Picture("phases", "Phases of a cold start", "phases", loading_figures.phases),
)
