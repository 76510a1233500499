"""One run, by whichever driver its config names."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.config.run_config import RunConfig


def execute(folder: Path, config: RunConfig, command: Sequence[str] = ()) -> dict[str, Any]:
    """Run, publish the folder, return the summary; see `run_into` of the driver's package."""
    # What runs it is imported once the config is known to be right: refusals are quick.
    if config.driver.kind == "real":
        from experiments.real.execute import run_into as replayed_into

        return replayed_into(folder, config, command)
    from experiments.simulation.execute import run_into as simulated_into

    return simulated_into(folder, config, command)
