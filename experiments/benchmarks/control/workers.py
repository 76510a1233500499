"""The benchmark's workers, in a process of their own: loads are paced, engines run in threads.

python -m experiments.benchmarks.control.workers --home DIRECTORY

When it is told to stop it writes what it has seen to DIRECTORY/loads.json.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from sllmcore.events import LoadFinished
from sllmcore.types import ServerSpec
from sllmreal.control.deployment import ModelDeployment
from sllmreal.control.home import Home, opened_home
from sllmreal.control.leader_link import LeaderLink
from sllmreal.control.messages import ReportedEvent
from sllmreal.control.site import leader_dial
from sllmreal.migration.links import LocalNetwork
from sllmreal.processes.run import run_process
from sllmreal.worker.data_plane import DataPlane, serving
from sllmreal.worker.paced import PacedStorage
from sllmreal.worker.runner import MakeRunner, Runner, Send
from sllmreal.worker.thread_runner import thread_launch
from sllmreal.worker.worker import Worker

SERVERS = [ServerSpec(f"s{one}", 16, 1 << 34, 0, 0, 1e9, 1e9, 1e10) for one in range(4)]
SEEN = "loads.json"


@dataclass(slots=True)
class LoadSeen:
    """One load as its worker saw it; instants by the machine's monotonic clock."""

    instance_id: str
    model: str
    came_at_s: float  # its command
    transfer_s: float = 0.0
    startup_s: float = 0.0


class Observed:
    """The loads of all workers here, by instance."""

    def __init__(self) -> None:
        self.loads: dict[str, LoadSeen] = {}

    def launch(self, make: MakeRunner) -> MakeRunner:
        """Notes when a worker begins to carry a load out."""

        def noting(instance_id: str, model: ModelDeployment, send: Send) -> Runner:
            self.loads[instance_id] = LoadSeen(instance_id, model.name, time.monotonic())
            return make(instance_id, model, send)

        return noting

    def report(self, event: ReportedEvent, report: Callable[[ReportedEvent], None]) -> None:
        """Notes what a load took, and reports it."""
        if isinstance(event, LoadFinished):
            load = self.loads[event.instance_id]
            load.transfer_s, load.startup_s = event.transfer_s, event.startup_s
        report(event)


async def _main(home: Home) -> None:
    observed, network = Observed(), LocalNetwork()
    try:
        async with AsyncExitStack() as stack:
            working = []
            for server in SERVERS:
                link, plane = LeaderLink("worker", server.id, leader_dial(home)), DataPlane()
                launch = observed.launch(thread_launch(links=network.links))
                report = partial(observed.report, report=link.report)
                worker = Worker(server, PacedStorage(server), launch, plane, report)
                stack.push_async_callback(worker.close)
                at = serving(plane, home.worker(server.id), home.key())
                await stack.enter_async_context(at)
                working.append(link.run(worker))
            await asyncio.gather(*working)
    finally:
        seen = [asdict(load) for load in observed.loads.values()]
        (home.directory / SEEN).write_text(json.dumps(seen))


def main() -> int:
    """0 when told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="the cluster's directory")
    return run_process("workers", _main(opened_home(parser.parse_args().home)))


if __name__ == "__main__":
    sys.exit(main())
