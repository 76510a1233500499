"""Runs a config and leaves its files in a folder."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

from experiments.config.run_config import RunConfig, plain_config
from experiments.simulation.environment import Stopwatch, environment
from experiments.simulation.files import CONFIG, ENV, INSTANCES, JOURNAL, REQUESTS, SUMMARY
from experiments.simulation.journal_file import written_journal
from experiments.simulation.parquet_file import order_of_arrival, order_of_launch, write_table
from experiments.simulation.run_folder import published_folder
from experiments.simulation.setup import policy_settings, sim_setup
from experiments.simulation.summary_file import summary_of
from sllmsim.simulate import SimResult, simulate
from traces.account import Account
from traces.workload import build_jobs


def run_into(folder: Path, config: RunConfig, command: Sequence[str] = ()) -> dict[str, Any]:
    """Run and publish the folder; returns the summary.

    Args:
        command: That the run is part of, for env.json, if not what this process was called.

    Raises:
        UsageError: The workload cannot be read, or the folder holds something already.
        ControlError: A request is unaccounted for, or a driver's contract is broken.
    """
    stopwatch = Stopwatch()
    with published_folder(folder) as new:
        account = Account()
        result = _simulated(new, config, account)
        summary = summary_of(config, result, account)
        recorder = result.recorder
        write_table(recorder.requests, new / REQUESTS, order_of_arrival(recorder.requests))
        write_table(recorder.instances, new / INSTANCES, order_of_launch(recorder.instances))
        (new / CONFIG).write_text(yaml.safe_dump(plain_config(config), sort_keys=False))
        summary["wall_s"] = stopwatch.wall_s()
        (new / SUMMARY).write_text(json_text(summary))
        (new / ENV).write_text(json_text(environment(stopwatch, command)))
    return summary


def _simulated(folder: Path, config: RunConfig, account: Account) -> SimResult:
    setup = sim_setup(config)
    policy = policy_settings(config, setup)
    jobs = build_jobs(config.workload, config.models.names, config.seed, account)
    with ExitStack() as stack:
        sinks = []
        if config.driver.journal:
            journal = written_journal(folder / JOURNAL, policy, config.seed)
            sinks.append(stack.enter_context(journal).observe)
        return simulate(policy, setup, jobs, config.seed, sinks)


def json_text(plain: object) -> str:
    """For people and programs; NaN would be a bug."""
    return json.dumps(plain, indent=2, allow_nan=False) + "\n"
