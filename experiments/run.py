"""`python -m experiments.run`: one simulation, or one run on a real cluster; see `--help`."""

import sys

from experiments.command import OK, Invocation, run_command
from experiments.config.compare_config import without_compare_keys
from experiments.config.run_config import run_config
from experiments.execution import execute
from experiments.simulation.trace_file import print_reports


def main() -> int:
    """Run the command and return its exit code."""
    return run_command("run", _run)


def _run(invocation: Invocation) -> int:
    config = run_config(without_compare_keys(invocation.plain))
    execute(invocation.folder, config)
    print_reports([invocation.folder])
    print(invocation.folder)
    return OK


if __name__ == "__main__":
    sys.exit(main())
