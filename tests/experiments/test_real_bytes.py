"""Replays with weights: generated models are loaded from files into engines that compute."""

import json
from pathlib import Path

import pyarrow.parquet as pq

from experiments import run
from experiments.real.sending import CLIENTS
from experiments.replay import replayed
from experiments.simulation import run_folder as files
from tests.experiments.commands import called

TINY = (
    "driver=real_transformers",
    "experiment=real_transformers",
    "driver.real.placement=in_process",
    "driver.real.sample=llama-tiny",
    "driver.real.max_send_lag_s=10",
    "models.deployments.small.replicas=2",
    "cluster.servers.cpu.count=1",
    "workload.max_requests=5",
    "workload.target_rps=10",
)


def test_generated_models_are_loaded_from_files_and_answer(tmp_path: Path) -> None:
    folder = tmp_path / "run"

    assert called(run.main, *TINY, f"out={folder}") == 0

    summary = json.loads((folder / files.SUMMARY).read_text())
    assert summary["completed"] == 5
    assert summary["loads"]["REMOTE"] >= 1
    answers = pq.read_table(folder / CLIENTS)["output_tokens"].to_pylist()
    assert answers == pq.read_table(folder / files.REQUESTS)["output_tokens"].to_pylist()
    moved = pq.read_table(folder / files.INSTANCES, columns=["source", "num_bytes"]).to_pylist()
    assert all(row["num_bytes"] > 100_000 for row in moved if row["source"] == "REMOTE")
    assert replayed(folder / files.JOURNAL) == 0
