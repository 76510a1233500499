"""Runs of a config on a real cluster; they write the files of a simulation and clients.parquet."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from experiments.config.real import RealSettings
from experiments.config.run_config import RunConfig, plain_config
from experiments.real.cluster import RealCluster
from experiments.real.plan import planned_cluster
from experiments.real.possible import check_lengths, real_settings
from experiments.real.sending import CLIENTS
from experiments.real.served import served_models
from experiments.real.system import System, Workload
from experiments.simulation.energy import held_gpu_s
from experiments.simulation.environment import Stopwatch, environment
from experiments.simulation.execute import json_text
from experiments.simulation.run_folder import (
    CONFIG,
    ENV,
    INSTANCES,
    SUMMARY,
    check_free,
    published_folder,
)
from experiments.simulation.summary_file import measured_summary
from experiments.simulation.trace_file import write_report
from traces.account import Account
from traces.report import TraceReport
from traces.workload import workload_requests


def run_into(
    folder: Path, config: RunConfig, command: Sequence[str] = (), system: System | None = None
) -> dict[str, Any]:
    """Replay the config's workload and publish the folder; return the summary.

    Args:
        folder: Folder of the results.
        config: The config.
        command: Command line for env.json; empty: this process's.
        system: The system to replay against; None: that of the config's driver.

    Raises:
        UsageError: A real cluster cannot carry the config out, or the folder is not free.
        ClusterError: The cluster broke, or requests were sent too late.
        ControlError: A request is unaccounted for.
    """
    settings = real_settings(config)
    check_free(folder)
    stopwatch, account, report = Stopwatch(), Account(), TraceReport()
    with published_folder(folder) as new, tempfile.TemporaryDirectory() as weights:
        workload = _workload(config, settings, account, Path(weights), report)
        served = (system or _system(config, settings)).replay(workload, new)
        held_s = _held_gpu_s(new, served.ended_at_s)
        summary = measured_summary(
            config=config, summary=served, account=account, held_s=held_s, lags_s=_lags_s(new)
        )
        (new / CONFIG).write_text(yaml.safe_dump(plain_config(config), sort_keys=False))
        write_report(new, config.workload, report)
        summary["wall_s"] = stopwatch.wall_s()
        (new / SUMMARY).write_text(json_text(summary))
        (new / ENV).write_text(json_text(environment(stopwatch, command)))
    return summary


def _system(config: RunConfig, settings: RealSettings) -> System:
    if config.driver.system == "sllm":
        return RealCluster(planned_cluster(config, settings))
    from experiments.ray_serve.system import ray_serve  # needs Ray

    return ray_serve(config)


def _workload(
    config: RunConfig,
    settings: RealSettings,
    account: Account,
    weights: Path,
    report: TraceReport,
) -> Workload:
    names, seed = config.models.names, config.seed
    jobs = tuple(workload_requests(config.workload, names, seed, account, report))
    models = served_models(config, settings, weights)
    check_lengths(jobs, models)
    return Workload(models, jobs, settings.max_send_lag_s)


def _held_gpu_s(folder: Path, end_s: float) -> float:
    """Return the GPU-seconds that instances held; 0 if the system wrote no table of instances."""
    if not (folder / INSTANCES).is_file():
        return 0.0
    table = pq.read_table(folder / INSTANCES).to_pydict()
    ended_at_s = (end_s if at_s is None else at_s for at_s in table["ended_at_s"])
    return held_gpu_s(table["num_gpus"], table["launched_at_s"], ended_at_s)


def _lags_s(folder: Path) -> list[float]:
    table = pq.read_table(folder / CLIENTS, columns=["scheduled_at_s", "sent_at_s"]).to_pydict()
    return [
        sent_s - scheduled_s
        for scheduled_s, sent_s in zip(table["scheduled_at_s"], table["sent_at_s"], strict=True)
    ]
