"""The style of all figures: a column of a paper wide, Okabe and Ito's colours, type of 7 points."""

from collections.abc import Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

COLUMN_IN = 3.4
BLUE, RED, GREEN, PINK, ORANGE, SKY, BLACK, GREY = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999"),
)
COLOURS: Mapping[str, str] = {
    "serverlessllm": BLUE,
    "shepherd": RED,
    "serverless": GREEN,
    "ray_serve": ORANGE,
    "ray_serve_cache": PINK,
    "kserve": BLACK,
    "kserve_enhanced": GREY,
    "managed_endpoint": SKY,
    "availability": SKY,
    "locality": PINK,
    "serverlessllm_kept": BLACK,
    "warmserve": ORANGE,
    "hydraserve": GREY,
    "pytorch": ORANGE,
    "safetensors": PINK,
    "tensorflow": SKY,
}
NAMES: Mapping[str, str] = {
    "serverlessllm": "ServerlessLLM",
    "shepherd": "Shepherd*",
    "serverless": "Serverless",
    "ray_serve": "Ray Serve",
    "ray_serve_cache": "Ray Serve w/ Cache",
    "kserve": "KServe",
    "kserve_enhanced": "KServe, enhanced",
    "managed_endpoint": "managed endpoint",
    "pytorch": "PyTorch",
    "safetensors": "Safetensors",
    "tensorflow": "TensorFlow",
    "opt_6_7b": "OPT-6.7B",
    "opt_13b": "OPT-13B",
    "opt_30b": "OPT-30B",
    "gsm8k": "GSM8K",
    "sharegpt": "ShareGPT",
    "availability": "availability",
    "locality": "locality",
    "serverlessllm_kept": "ServerlessLLM, idle kept",
    "warmserve": "WarmServe (subset)",
    "hydraserve": "HydraServe (subset)",
    "warm": "models in DRAM and on SSD",
    "remote": "empty servers that cache",
    "bare": "no caches, CV 1",
}
DASHES: Mapping[str, str] = {"serverlessllm": "-", "shepherd": "--", "serverless": ":"}
MARKERS: Mapping[str, str] = {"serverlessllm": "o", "ray_serve": "s", "ray_serve_cache": "^"}
FORMATS = ("pdf", "png")


def new_figure(height_in: float = 2.4, columns: int = 1) -> Figure:
    """Return an empty figure, `columns` columns of a paper wide."""
    figure = Figure(figsize=(COLUMN_IN * columns, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def style_axes(axes: Axes, xlabel: str, ylabel: str, *, log: bool = False) -> None:
    """Set labels, grid and type sizes."""
    axes.set_xlabel(xlabel, fontsize=8)
    axes.set_ylabel(ylabel, fontsize=8)
    axes.tick_params(labelsize=7)
    axes.grid(axis="y", color="#dddddd", linewidth=0.5)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if log:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")


def add_legend(figure: Figure, axes: Axes, columns: int = 2) -> None:
    """Add a legend below the figure, with each name once."""
    found = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    figure.legend(
        list(found.values()),
        list(found),
        loc="outside lower center",
        ncols=columns,
        fontsize=7,
        frameon=False,
    )


def save_figure(figure: Figure, stem: str, folder: Path) -> list[Path]:
    """Write a figure as PDF and PNG without a date, so equal results give equal files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{stem}.{kind}" for kind in FORMATS]
    for path in paths:
        metadata = {"CreationDate": None} if path.suffix == ".pdf" else {}
        figure.savefig(path, dpi=200, metadata=metadata)
    return paths
