"""The runs of every figure. A new figure is a function that yields cells, and a line in `grids`.

Settings that all figures share are in `configs/workload/paper.yaml`,
`configs/cluster/testbed_ii.yaml` and `configs/models/warm_*.yaml`.
"""

from collections.abc import Iterable, Mapping, Sequence

from experiments.reproduction.figures.grid import FigureCell, FigureGrid
from experiments.reproduction.figures.search import OVERRIDES, points
from traces.function_cvs import PublishedCvs

PAPER = ("workload=paper", "cluster=testbed_ii", "driver.journal=false")
MODELS = ("opt_6_7b", "opt_13b", "opt_30b")
DATASETS = ("gsm8k", "sharegpt")
SCHEDULERS = ("serverless", "shepherd", "serverlessllm")
SYSTEMS = ("ray_serve", "ray_serve_cache", "serverlessllm")
# Seeds of figures that are compared with published numbers; more seeds where more cells are near an
# end of their band.
MANY, MOST = tuple(range(20)), tuple(range(30))
NUM_SMALL_MODELS = 32  # OPT-6.7B models in every figure except 12b


def _cell(labels: Mapping[str, str], *overrides: str) -> FigureCell:
    """Return a cell with the overrides that its labels policy, model, dataset and rps imply."""
    words = {"policy": "policy={}", "model": "models=warm_{}", "dataset": "workload.lengths={}"}
    words["rps"] = "workload.target_rps={}"
    known = [words[name].format(value) for name, value in labels.items() if name in words]
    return FigureCell(labels, (*known, *overrides))


def _figure_8() -> Iterable[FigureCell]:
    for dataset in DATASETS:
        for rps in ("0.2", "0.8", "1.4"):
            for policy in SCHEDULERS:
                yield _cell({"model": "opt_6_7b", "dataset": dataset, "rps": rps, "policy": policy})


def _figure_9() -> Iterable[FigureCell]:
    for model in ("opt_13b", "opt_30b"):
        for dataset in DATASETS:
            for policy in SCHEDULERS:
                yield _cell({"model": model, "dataset": dataset, "rps": "0.2", "policy": policy})


def _figure_10() -> Iterable[FigureCell]:
    for dataset in DATASETS:
        for model in MODELS:
            for policy in SYSTEMS:
                yield _cell({"model": model, "dataset": dataset, "policy": policy})


def _figure_11() -> Iterable[FigureCell]:
    for rps in ("0.2", "0.5", "0.8", "1.1"):
        for policy in SYSTEMS:
            yield _cell({"model": "opt_6_7b", "dataset": "gsm8k", "rps": rps, "policy": policy})


def _figure_12a() -> Iterable[FigureCell]:
    for num_gpus in ("1", "2", "3", "4"):
        for policy in ("ray_serve_cache", "serverlessllm"):
            yield _cell(
                {"model": "opt_6_7b", "dataset": "gsm8k", "policy": policy, "gpus": num_gpus},
                f"cluster.servers.a40.num_gpus={num_gpus}",
            )


def _figure_12b() -> Iterable[FigureCell]:
    for num_models in ("16", "32", "48", "64"):
        for policy in ("ray_serve", "ray_serve_cache", "serverlessllm"):
            yield _cell(
                {"model": "opt_6_7b", "dataset": "gsm8k", "policy": policy, "models": num_models},
                f"models.deployments.opt_6_7b.replicas={num_models}",
            )


def _dram() -> Iterable[FigureCell]:
    for model in MODELS:
        for gigabytes in ("64", "128", "256", "512"):
            for policy in ("serverless", "serverlessllm"):
                yield _cell(
                    {"model": model, "dataset": "gsm8k", "policy": policy, "pool_gb": gigabytes},
                    f"cluster.servers.a40.dram_pool_bytes={gigabytes}000000000",
                )


def _figure_10_single() -> Iterable[FigureCell]:
    """Yield figure 10 with one request per instance, at the rate that fits best then."""
    for cell in _figure_10():
        slots = f"models.deployments.{cell.labels['model']}.num_slots=1"
        yield FigureCell(cell.labels, (*cell.overrides, slots, "workload.target_rps=0.4"))


def _search(cells: Sequence[FigureCell]) -> Iterable[FigureCell]:
    """Yield a figure's cells at each point of the search; a cell keeps a rate of its own."""
    for point in points():
        for cell in cells:
            overrides = [
                word.format(point[name], model=cell.labels["model"])
                for name, word in OVERRIDES.items()
                if name not in cell.labels
            ]
            yield FigureCell({**point, **cell.labels}, (*cell.overrides, *overrides))


def _figure_8_loaded() -> Iterable[FigureCell]:
    """Yield the cells of figure 8 for which P99 ratios are published."""
    return (
        cell
        for cell in _figure_8()
        if cell.labels["rps"] == "1.4" and cell.labels["dataset"] == "gsm8k"
    )


def _figure_11_ends() -> Iterable[FigureCell]:
    """Yield figure 11's lowest and highest rate, enough to see a knee."""
    return (
        cell
        for cell in _figure_11()
        if cell.labels["rps"] in ("0.2", "1.1") and cell.labels["policy"] != "ray_serve"
    )


def _burstiness() -> Iterable[FigureCell]:
    """Yield the readings of "CV 8", and smaller CVs.

    CV 8 may be the CV of each model's gaps, or AlpaServe's factor on each function's own CV.
    """
    published = PublishedCvs.load()
    own = [published.cv(f"opt_6_7b-{index}", seed=0) for index in range(NUM_SMALL_MODELS)]
    cvs = {
        **{name: name for name in ("1", "2", "4", "8")},
        "own": f"[{','.join(f'{cv:.4g}' for cv in own)}]",
        "own x 8": f"[{','.join(f'{8 * cv:.4g}' for cv in own)}]",
    }
    for reading, cv in cvs.items():
        for policy in SCHEDULERS:
            yield _cell(
                {"model": "opt_6_7b", "dataset": "gsm8k", "rps": "1.4", "policy": policy}
                | {"cv": reading},
                f"workload.cv={cv}",
            )


def _platforms() -> Iterable[FigureCell]:
    """Yield platforms at so low a rate that most requests meet a cold model and no other load."""
    for policy in ("kserve", "kserve_enhanced", "managed_endpoint", *SYSTEMS):
        yield _cell(
            {"model": "opt_6_7b", "dataset": "gsm8k", "rps": "0.002", "policy": policy},
            "workload.cv=1",
            "workload.duration_s=50000",
        )


KEPT = "serverlessllm_kept"  # idle instances stay until their GPUs are wanted
REGRETTED = (
    *("serverless", "availability", "locality", "shepherd", "serverlessllm"),
    *(KEPT, "warmserve", "hydraserve"),
)
REGRET_SCENES: Mapping[str, tuple[str, ...]] = {
    "warm": ("models=warm_opt_6_7b", "workload.target_rps=0.4"),
    # Empty servers: a fetch leaves copies in DRAM and on SSD (remote), or no copy (bare).
    "remote": ("models=opt_6_7b", "models.ssd.kind=none", "workload.target_rps=0.1"),
    "bare": (
        *("models=opt_6_7b", "models.ssd.kind=none", "workload.target_rps=0.1", "workload.cv=1"),
        *("policy.residency.caches_dram=false", "policy.residency.caches_ssd=false"),
    ),
}


def _regret() -> Iterable[FigureCell]:
    """Yield each policy in each scene, with one request per instance as the bounds require."""
    for scene, overrides in REGRET_SCENES.items():
        for policy in REGRETTED:
            kept = ("policy.residency.keep_alive_load_factor=null",) if policy == KEPT else ()
            option = policy.removesuffix("_kept")
            slots = "models.deployments.opt_6_7b.num_slots=1"
            yield FigureCell(
                {"scene": scene, "policy": policy},
                (f"policy={option}", *overrides, slots, *kept),
            )


def _estimator() -> Iterable[FigureCell]:
    for model in MODELS:
        yield _cell({"model": model, "dataset": "gsm8k", "policy": "serverlessllm"})


def grids() -> tuple[FigureGrid, ...]:
    """Return all grids in the order of running: the paper's main figures first."""
    return (
        FigureGrid("fig10", PAPER, tuple(_figure_10()), seeds=MOST),
        FigureGrid(
            name="fig8", shared=PAPER, cells=tuple(_figure_8()), measure="distributions", seeds=MANY
        ),
        FigureGrid("fig12a", PAPER, tuple(_figure_12a()), seeds=MOST),
        FigureGrid("kserve", PAPER, tuple(_platforms())),
        FigureGrid("estimator", PAPER, tuple(_estimator()), "estimates"),
        FigureGrid(
            name="regret", shared=PAPER, cells=tuple(_regret()), measure="regrets", seeds=MANY
        ),
        FigureGrid("fig11", PAPER, tuple(_figure_11())),
        FigureGrid("burstiness", PAPER, tuple(_burstiness())),
        FigureGrid("fig12b", PAPER, tuple(_figure_12b())),
        FigureGrid("fig9", PAPER, tuple(_figure_9()), "distributions"),
        FigureGrid("dram", PAPER, tuple(_dram())),
        FigureGrid("fig10_single", PAPER, tuple(_figure_10_single()), seeds=MANY),
        FigureGrid(
            "search_fig8", PAPER, tuple(_search(tuple(_figure_8_loaded()))), seeds=(0, 1, 2, 3)
        ),
        FigureGrid("search_fig11", PAPER, tuple(_search(tuple(_figure_11_ends()))), seeds=(0, 1)),
        FigureGrid("search", PAPER, tuple(_search(tuple(_figure_10()))), seeds=(0, 1)),
    )
