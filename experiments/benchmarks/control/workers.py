"""The benchmark's workers, in one process; loads are emulated and engines run in threads.

python -m experiments.benchmarks.control.workers --home DIRECTORY

When it is stopped it writes the observed loads to DIRECTORY/loads.json.
"""

import argparse
import asyncio
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from sllmcore.events import LoadFinished
from sllmcore.types import ServerSpec
from sllmreal.control.deployment import ModelDeployment
from sllmreal.control.home import Home, opened_home
from sllmreal.control.messages import ReportedEvent
from sllmreal.migration.links import LocalNetwork
from sllmreal.processes.run import run_process
from sllmreal.processes.worker import work_with
from sllmreal.worker.paced import PacedStorage
from sllmreal.worker.runner import MakeRunner, Runner, Send
from sllmreal.worker.thread_runner import thread_launch

SERVERS = [
    ServerSpec(
        id=f"s{one}",
        num_gpus=16,
        gpu_memory_bytes=1 << 34,
        dram_bytes=0,
        ssd_bytes=0,
        remote_bytes_per_s=1e9,
        ssd_bytes_per_s=1e9,
        dram_bytes_per_s=1e10,
    )
    for one in range(4)
]
LOADS = "loads.json"


@dataclass(slots=True)
class ObservedLoad:
    """A load at its worker.

    Attributes:
        came_at_s: The machine's monotonic clock when the worker began to carry the order out.
    """

    instance_id: str
    model: str
    came_at_s: float
    transfer_s: float = 0.0
    startup_s: float = 0.0


class LoadObserver:
    """Records the loads of all workers of this process."""

    def __init__(self) -> None:
        self.loads: dict[str, ObservedLoad] = {}  # by instance

    def launch(self, make: MakeRunner) -> MakeRunner:
        """Return a `MakeRunner` that records the beginning of each load."""

        def observed(instance_id: str, model: ModelDeployment, send: Send) -> Runner:
            self.loads[instance_id] = ObservedLoad(instance_id, model.name, time.monotonic())
            return make(instance_id, model, send)

        return observed

    def observe(self, event: ReportedEvent) -> None:
        """Record the phases of a load that has finished."""
        if isinstance(event, LoadFinished):
            load = self.loads[event.instance_id]
            load.transfer_s, load.startup_s = event.transfer_s, event.startup_s


async def _main(home: Home) -> None:
    observer, network = LoadObserver(), LocalNetwork()
    try:
        launch = observer.launch(thread_launch(links=network.links))
        await asyncio.gather(
            *(
                work_with(
                    site=home,
                    server=server,
                    storage=PacedStorage(server),
                    launch=launch,
                    observe=observer.observe,
                )
                for server in SERVERS
            )
        )
    finally:
        loads = [asdict(load) for load in observer.loads.values()]
        (home.directory / LOADS).write_text(json.dumps(loads))


def main() -> int:
    """Run the process; see `run_process` for the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="the cluster's directory")
    return run_process("workers", _main(opened_home(parser.parse_args().home)))


if __name__ == "__main__":
    sys.exit(main())
