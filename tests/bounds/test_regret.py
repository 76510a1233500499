"""The regrets of the runs of a comparison."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.bounds import main
from experiments.comparison.cells import cell_in, run_cells
from experiments.composing import composed_run


def test_each_run_has_a_regret(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = composed_run(["experiment=bounds", "workload.max_requests=60"])
    shepherd = replace(run, policy=replace(run.policy, name="shepherd"))
    cells = [
        cell_in(tmp_path, config.policy.name, replace(config, seed=seed))
        for config in (run, shepherd)
        for seed in (0, 1)
    ]
    run_cells(cells, 1, lambda _: None)

    code = main([str(tmp_path)])

    assert code == 0
    assert "shepherd" in capsys.readouterr().out
    regrets = json.loads((tmp_path / "regret.json").read_text())
    assert [(r["label"], r["seed"]) for r in regrets] == [
        ("serverlessllm", 0),
        ("serverlessllm", 1),
        ("shepherd", 0),
        ("shepherd", 1),
    ]
    for regret in regrets:
        assert 0 < regret["bound_s"] <= regret["delay_s"]
        assert regret["regret_s"] == regret["delay_s"] - regret["bound_s"]
        assert regret["infinite_dram_s"] < regret["all_remote_s"]
    assert (tmp_path / "regret.csv").read_text().count("\n") == 5


def test_a_folder_without_runs_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)]) == 2
    assert "holds no runs" in capsys.readouterr().err
