"""A simulated run: from its config to the files in its folder."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

from experiments.config.run_config import RunConfig, plain_config
from experiments.simulation.environment import Stopwatch, environment
from experiments.simulation.journal_file import written_journal
from experiments.simulation.parquet_file import order_of_arrival, order_of_launch, write_table
from experiments.simulation.run_folder import (
    CONFIG,
    ENV,
    INSTANCES,
    JOURNAL,
    REQUESTS,
    SUMMARY,
    published_folder,
)
from experiments.simulation.setup import policy_settings, sim_setup
from experiments.simulation.summary_file import simulated_summary
from experiments.simulation.trace_file import write_report
from sllmsim.simulate import SimResult, simulate
from traces.account import Account
from traces.report import TraceReport
from traces.workload import workload_requests


def run_into(folder: Path, config: RunConfig, command: Sequence[str] = ()) -> dict[str, Any]:
    """Simulate a run, write its files into `folder`, and return its summary.

    Args:
        command: Command line for env.json; default: that of this process.

    Raises:
        UsageError: The workload cannot be read, or `folder` is not empty.
        ControlError: A request is unaccounted for, or the driver broke its contract.
    """
    stopwatch = Stopwatch()
    with published_folder(folder) as new:
        account, report = Account(), TraceReport()
        result = _simulated(new, config, account, report)
        summary = simulated_summary(config, result, account)
        recorder = result.recorder
        write_table(recorder.requests, new / REQUESTS, order_of_arrival(recorder.requests))
        write_table(recorder.instances, new / INSTANCES, order_of_launch(recorder.instances))
        (new / CONFIG).write_text(yaml.safe_dump(plain_config(config), sort_keys=False))
        write_report(new, config.workload, report)
        summary["wall_s"] = stopwatch.wall_s()
        (new / SUMMARY).write_text(json_text(summary))
        (new / ENV).write_text(json_text(environment(stopwatch, command)))
    return summary


def _simulated(folder: Path, config: RunConfig, account: Account, report: TraceReport) -> SimResult:
    setup = sim_setup(config)
    policy = policy_settings(config, setup)
    names, seed = config.models.names, config.seed
    requests = workload_requests(config.workload, names, seed, account, report)
    with ExitStack() as stack:
        sinks = []
        if config.driver.journal:
            journal = written_journal(folder / JOURNAL, policy, config.seed)
            sinks.append(stack.enter_context(journal).observe)
        return simulate(
            policy=policy, setup=setup, workload=requests, seed=config.seed, sinks=sinks
        )


def json_text(plain: object) -> str:
    """Return indented JSON.

    Raises:
        ValueError: A number is NaN or infinite.
    """
    return json.dumps(plain, indent=2, allow_nan=False) + "\n"
