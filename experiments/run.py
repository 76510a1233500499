"""`python -m experiments.run`: one simulation, its files in a folder. `--help` says more."""

import sys

from experiments.command import OK, Job, run_command
from experiments.config.compare_config import without_compare_keys
from experiments.config.run_config import run_config


def main() -> int:
    """The command; returns its exit code."""
    return run_command("run", _run)


def _run(job: Job) -> int:
    config = run_config(without_compare_keys(job.plain))

    # The simulator is imported once the config is known to be right: refusals are quick.
    from experiments.simulation.execute import run_into

    run_into(job.folder, config)
    print(job.folder)
    return OK


if __name__ == "__main__":
    sys.exit(main())
