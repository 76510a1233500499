"""A workload replayed against Ray Serve: `python -m experiments.ray_serve FOLDER OVERRIDE ...`.

The overrides are those of `python -m experiments.run driver=real`; the engines are timed. With
--cache a node keeps what it has downloaded, as `policy=ray_serve_cache` has it; without, every cold
start downloads, as `policy=ray_serve` has it. The loader's speeds come from those files.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from experiments.command import OK, exit_code
from experiments.composing import composed_run
from experiments.config.run_config import RunConfig
from experiments.ray_serve.system import RayServe
from experiments.real.execute import run_into
from experiments.simulation.setup import sim_setup
from sllmcore.errors import UsageError
from sllmcore.types import DRAM, SSD


def _run(arguments: argparse.Namespace) -> int:
    config = composed_run([*arguments.overrides, "driver=real"])
    name = "ray_serve_cache" if arguments.cache else "ray_serve"
    simulated = composed_run([f"policy={name}"])
    system = ray_serve(config, simulated)
    run_into(
        arguments.folder,
        replace(config, name=f"{config.name}-{name}", policy=simulated.policy),
        system=system,
    )
    print(arguments.folder)
    return OK


def ray_serve(config: RunConfig, simulated: RunConfig) -> RayServe:
    """The system on the servers of a config, their caches empty, loading as a simulated one does.

    Raises UsageError for engines that are not timed.
    """
    if config.driver.real is None or config.driver.real.engine != "timed":
        raise UsageError("driver.real.engine: Ray Serve's replicas run timed engines here")
    residency = simulated.policy.residency
    keeps = (*((DRAM,) * residency.caches_dram), *((SSD,) * residency.caches_ssd))
    servers = tuple(replace(one, resident=()) for one in sim_setup(config).servers)
    timeout_s = simulated.policy.controller.startup_timeout_s
    return RayServe(servers, simulated.driver.loader, keeps, timeout_s)


def main() -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of the results; not there yet, or empty")
    parser.add_argument("overrides", nargs="*", help="group=option or key=value")
    parser.add_argument("--cache", action="store_true", help="nodes keep what they downloaded")
    arguments = parser.parse_intermixed_args()
    return exit_code(lambda: _run(arguments))


if __name__ == "__main__":
    sys.exit(main())
