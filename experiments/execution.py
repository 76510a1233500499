"""The execution of a run by the driver that its config names."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.config.run_config import RunConfig


def execute(folder: Path, config: RunConfig, command: Sequence[str] = ()) -> dict[str, Any]:
    """Run a config, write its files into `folder`, and return its summary.

    Args:
        command: Command line for env.json; default: that of this process.

    Raises:
        UsageError: The config or an input file is wrong, or `folder` is not empty.
        ClusterError: A process of the real cluster broke, or requests were sent too late.
        ControlError: A request is unaccounted for.
    """
    # Imported only when the config has been checked, so that errors appear quickly.
    if config.driver.kind == "real":
        from experiments.real.execute import run_into as replayed_into

        return replayed_into(folder, config, command)
    from experiments.simulation.execute import run_into as simulated_into

    return simulated_into(folder, config, command)
