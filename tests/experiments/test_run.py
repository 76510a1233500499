"""`experiments.run`: the files of a run, and errors."""

import json
import math
import os
import re
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from experiments import run
from experiments.composing import composed_run
from experiments.config.run_config import plain_config, run_config
from experiments.simulation import run_folder
from experiments.simulation.summary_file import check_accounting
from sllmcore.errors import ControlError
from sllmcore.metrics.tables import INSTANCE_COLUMNS, REQUEST_COLUMNS
from tests.experiments.commands import SMALL, called, small_run

ARROW = {"s": "string", "f": "double", "i": "int64"}


def test_a_run_leaves_its_six_files_and_prints_its_folder_last(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = small_run(tmp_path / "deep" / "run")

    names = {path.name for path in folder.iterdir()}
    assert names == {
        run_folder.CONFIG,
        run_folder.ENV,
        run_folder.SUMMARY,
        run_folder.REQUESTS,
        run_folder.INSTANCES,
        run_folder.JOURNAL,
    }
    assert list(folder.parent.iterdir()) == [folder]
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-1] == str(folder)
    assert captured.err == ""


def test_the_tables_have_the_documented_columns_in_order_of_arrival(tmp_path: Path) -> None:
    folder = small_run(tmp_path / "run")

    requests = pq.read_table(folder / run_folder.REQUESTS)
    instances = pq.read_table(folder / run_folder.INSTANCES)
    for table, columns in ((requests, REQUEST_COLUMNS), (instances, INSTANCE_COLUMNS)):
        assert {field.name: str(field.type) for field in table.schema} == {
            name: ARROW[kind] for name, kind in columns.items()
        }
    assert requests["request_id"].to_pylist() == [f"r{index}" for index in range(30)]
    arrived_at_s = requests["arrived_at_s"].to_numpy()
    assert (arrived_at_s[1:] >= arrived_at_s[:-1]).all()


def test_the_summary_accounts_for_every_request_and_every_gpu_second(tmp_path: Path) -> None:
    folder = small_run(tmp_path / "run", "workload.patience_s=3")

    summary = json.loads((folder / run_folder.SUMMARY).read_text())
    ended = [summary[key] for key in ("completed", "rejected", "timed_out", "cancelled")]
    assert sum(ended) == summary["requests"] == summary["workload"]["jobs"] == 30
    gpu_s = math.fsum(summary[key] for key in ("gpu_busy_s", "gpu_loading_s", "gpu_idle_s"))
    assert gpu_s == pytest.approx(4 * summary["simulated_s"])
    assert 0 <= summary["gpu_resident_s"] <= summary["gpu_idle_s"]
    assert summary["cost_usd"] == pytest.approx(gpu_s / 3600 * 0.40)
    assert 30 * gpu_s <= summary["energy_j"] <= 300 * gpu_s
    assert set(summary["loads"]) == {"REMOTE", "SSD", "DRAM"}
    assert set(summary["bytes_by_link"]) >= {"storage", "nic", "ssd_read", "ssd_write", "pcie"}


def test_a_request_without_an_end_is_an_error() -> None:
    ended = {"requests": 3, "completed": 1, "rejected": 1, "timed_out": 0, "cancelled": 0}

    with pytest.raises(ControlError, match="workload has 3, the controller met 3, 2 ended"):
        check_accounting(ended, 3)


def test_the_written_config_is_that_of_the_run(tmp_path: Path) -> None:
    folder = small_run(tmp_path / "run", "policy=shepherd", "seed=7")

    config = run_config(yaml.safe_load((folder / run_folder.CONFIG).read_text()))
    assert config == composed_run([*SMALL, "policy=shepherd", "seed=7"])
    assert plain_config(config)["seed"] == 7


def test_a_sweep_puts_each_job_into_its_own_folder(tmp_path: Path) -> None:
    out = tmp_path / "sweep"

    assert called(run.main, "-m", *SMALL, "policy=serverless,locality", f"out={out}") == 0

    policies = [json.loads((out / job / run_folder.SUMMARY).read_text())["policy"] for job in "01"]
    assert policies == ["serverless", "locality"]


def test_a_run_without_a_journal_has_none(tmp_path: Path) -> None:
    folder = small_run(tmp_path / "run", "driver.journal=false")

    assert not (folder / run_folder.JOURNAL).exists()


MISTAKES = {
    "policy=best": "'policy/best'.*availability.*serverlessllm",
    "policy.name=best": "unknown policy 'best', known are serverlessllm",
    "cluster.servers.a40.gpu=b100": "cluster.servers.*unknown gpu 'b100'.*h100",
    "models.deployments.opt_13b.model=opt-14b": "deployments.*unknown model 'opt-14b'.*opt-13b",
    "models.deployments.opt_13b.model=opt-175b": "opt-175b.*fits on no server",
    "models.deployments.opt_13b.num_gpus=8": "opt-13b.*on 8 GPUs fits on no server.*has 2 a40",
    "workload.rps=2": "workload.rps",
    "+workload.target_rsp=2": "workload.target_rsp: there is no such key; did you mean target_rps",
    "workload.target_rps=fast": "workload.target_rps: Expected `float . null`, got `str`",
    "workload.target_rps=-1": "workload: target_rps must be positive, got -1",
    "workload.lengths=poems": "workload: no length profile 'poems'",
    "workload=azure_llm": "workload: kind azure_llm needs the path of a file",
    "seed=-3": "seed must be 0 or more, got -3",
    "driver.phases=magic": "driver: unknown phases 'magic'",
    "driver.kind=real": "driver: kind real needs the settings of a real cluster: take driver=real",
    "driver.kind=ray": "driver.kind: Invalid enum value 'ray'",
    "policy.residency.keep_alive_s=5": "policy.residency: give keep_alive_s or",
    "models.ssd.replicas=0": "replicas must be at least 1",
}


@pytest.mark.parametrize(("override", "complaint"), MISTAKES.items())
def test_a_mistake_is_reported_in_one_line_and_leaves_no_file(
    override: str, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = [word for word in SMALL if word.partition("=")[0] != override.partition("=")[0]]

    code = called(run.main, *base, override, f"out={tmp_path / 'a' / 'run'}")

    captured = capsys.readouterr()
    assert code == 2
    assert list(tmp_path.iterdir()) == []
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert re.search(complaint, captured.err), captured.err


def test_a_wrong_trace_leaves_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03,10,many\n")

    code = called(
        run.main,
        "experiment=azure_llm",
        f"workload.path={trace}",
        f"out={tmp_path / 'run'}",
    )

    assert code == 2
    assert "trace.csv:2, column 'GeneratedTokens'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [trace]


def test_a_missing_trace_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = called(
        run.main, "experiment=azure_llm", "workload.path=nowhere.csv", f"out={tmp_path / 'run'}"
    )

    assert code == 2
    assert "workload.path: there is no file 'nowhere.csv'" in capsys.readouterr().err


def test_a_folder_with_files_is_not_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("mine")

    assert called(run.main, *SMALL, f"out={tmp_path}") == 2
    assert "holds files already" in capsys.readouterr().err


def test_the_same_bytes_under_any_hash_seed_from_any_directory(tmp_path: Path) -> None:
    digests = []
    for hash_seed in ("1", "2"):
        folder = tmp_path / hash_seed
        command = [sys.executable, "-m", "experiments.run", *SMALL, f"out={folder}"]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        subprocess.run(command, check=True, cwd=tmp_path, env=environment, capture_output=True)
        digests.append(
            [
                sha256((folder / name).read_bytes()).hexdigest()
                for name in (
                    run_folder.REQUESTS,
                    run_folder.INSTANCES,
                    run_folder.JOURNAL,
                    run_folder.CONFIG,
                )
            ]
        )

    assert digests[0] == digests[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]


def test_help_shows_examples_and_groups(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        called(run.main, "--help")

    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert "python -m experiments.run experiment=demo" in text
    for group in ("cluster", "driver", "experiment", "models", "policy", "workload"):
        assert f"{group}: " in text
