"""`python -m experiments.run`: one simulation, or one replay against a real cluster; its files in a
folder. `--help` says more."""

import sys

from experiments.command import OK, Invocation, run_command
from experiments.config.compare_config import without_compare_keys
from experiments.config.run_config import run_config
from experiments.execution import execute


def main() -> int:
    """The command; returns its exit code."""
    return run_command("run", _run)


def _run(job: Invocation) -> int:
    config = run_config(without_compare_keys(job.plain))
    execute(job.folder, config)
    print(job.folder)
    return OK


if __name__ == "__main__":
    sys.exit(main())
