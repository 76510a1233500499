"""The presets of the compared systems, with one request at a time."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.composing import composed_run
from experiments.figures import missing_runs
from experiments.reproduction.figures.grid import FigureCell, FigureGrid, runs_of
from experiments.reproduction.figures.measures import measured
from experiments.reproduction.figures.store import ResultStore

CALM = (
    *("workload=paper", "models=warm_opt_6_7b", "workload.cv=0", "workload.target_rps=0.002"),
    *("workload.duration_s=200000", "workload.max_requests=100", "driver.journal=false"),
)
GIGABIT_PULL_S = 13.3e9 / 125e6


def _calm(policy: str) -> dict[str, object]:
    """Return the latencies of requests so far apart that each meets a cold model and idle links."""
    return measured(replace(composed_run([*CALM, f"policy={policy}"]), seed=1), "latencies")


def _loads(policy: str) -> object:
    return _calm(policy)["loads"]


def test_ray_serve_never_finds_a_copy() -> None:
    loads = _loads("ray_serve")

    assert isinstance(loads, dict)
    assert loads["REMOTE"] > 0 and loads["SSD"] == loads["DRAM"] == 0


def test_ray_serve_with_a_cache_finds_what_it_downloaded() -> None:
    loads = _loads("ray_serve_cache")

    assert isinstance(loads, dict)
    assert loads["REMOTE"] > 0 and loads["SSD"] + loads["DRAM"] > 0


@pytest.mark.parametrize(
    ("policy", "low_s", "high_s"),
    [
        ("kserve", GIGABIT_PULL_S, 1.25 * 128.0),  # the published first token [M]
        ("kserve_enhanced", 0.75 * 28.0, 1.25 * 28.0),
        ("ray_serve", 10.7, 1.25 * 12.1),
        ("managed_endpoint", 20.0, 30.0),  # 12.7 s of phases, 10.7 s of download, 2 s of loading
    ],
)
def test_a_cold_start_takes_its_published_or_computed_time(
    policy: str, low_s: float, high_s: float
) -> None:
    result = measured(replace(composed_run([*CALM, f"policy={policy}"]), seed=1), "latencies")

    assert low_s <= result["ttft_p50_s"] <= high_s


def test_a_stored_run_is_not_run_again(tmp_path: Path) -> None:
    folder = tmp_path
    overrides = (*CALM, "policy=serverlessllm", "workload.max_requests=3")
    grid = FigureGrid(
        "small", (), (FigureCell({"policy": "serverlessllm"}, overrides),), seeds=(0, 1)
    )
    store = ResultStore(folder / "results", folder / "runs.jsonl")
    runs = runs_of(grid)

    for run in runs:
        store.add(run.key, measured(run.config, grid.measure), 0.1)
    fresh = ResultStore(folder / "results", folder / "runs.jsonl")

    assert all(run.key in fresh for run in runs)
    assert fresh.publish(grid, runs)
    assert fresh.is_current(grid)
    assert not fresh.publish(grid, runs)


def test_a_run_is_run_once_for_all_figures_and_measures(tmp_path: Path) -> None:
    cell = FigureCell({"policy": "serverlessllm"}, (*CALM, "workload.max_requests=3"))
    few, whole = (
        FigureGrid(name="few", shared=(), cells=(cell,), measure="latencies", seeds=(0,)),
        FigureGrid(name="whole", shared=(), cells=(cell,), measure="distributions", seeds=(0, 1)),
    )
    store = ResultStore(tmp_path / "results", tmp_path / "runs.jsonl")
    runs = [*runs_of(few), *runs_of(whole)]

    missing = missing_runs(runs, store)
    for run in missing:
        store.add(run.key, measured(run.config, run.grid.measure), 0.1)

    assert [(run.grid.name, run.seed) for run in missing] == [("whole", 0), ("whole", 1)]
    assert missing_runs(runs, store) == []
    assert store.publish(few, runs_of(few)) and store.publish(whole, runs_of(whole))
    kept = {
        name: json.loads((tmp_path / f"results/{name}.json").read_text())["runs"][0]["measured"]
        for name in ("few", "whole")
    }
    assert kept["few"].keys() == kept["whole"].keys() - {"quantiles_s"}
    assert ResultStore(tmp_path / "results", tmp_path / "none").is_current(few)


def test_regret_is_the_cost_of_a_run_above_its_bound() -> None:
    overrides = (*CALM, "models=opt_6_7b", "policy=hydraserve", "models.ssd.kind=none")
    result = measured(composed_run(overrides), "regrets")

    assert 0 < result["bound_s"] < result["delay_s"]
    assert result["regret_s"] == result["delay_s"] - result["bound_s"]
