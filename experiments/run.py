"""`python -m experiments.run`: one simulation, its files in a folder. `--help` says more."""

import sys
from pathlib import Path
from typing import Any

from experiments.command import OK, run_command
from experiments.config.run_config import run_config


def main() -> int:
    """The command; returns its exit code."""
    return run_command("run", _run)


def _run(plain: dict[str, Any], folder: Path) -> int:
    for key in COMPARE_KEYS:
        plain.pop(key)
    config = run_config(plain)

    # The simulator is imported once the config is known to be right: refusals are quick.
    from experiments.simulation.execute import run_into  # noqa: PLC0415

    run_into(folder, config)
    print(folder)
    return OK


COMPARE_KEYS = ("policies", "seeds", "workers", "json")  # experiments say them for both commands


if __name__ == "__main__":
    sys.exit(main())
