"""A worker's process: one server of the cluster at `--home`, until a signal stops it.

python -m sllmreal.processes.worker --home DIRECTORY --server s0 --gpus 1 --dram-gb 4
"""

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from sllmcore.types import ServerSpec
from sllmreal import logs
from sllmreal.control.deployment import ModelDeployment
from sllmreal.control.home import opened_home
from sllmreal.control.leader_link import LeaderLink
from sllmreal.control.messages import ReportedEvent
from sllmreal.control.site import Site, leader_dial
from sllmreal.processes.claim import HANDOVER_S, claimed
from sllmreal.processes.run import run_process
from sllmreal.processes.server_options import add_sizes, given_server, num_spares, opened_storage
from sllmreal.worker.data_plane import DataPlane, serving
from sllmreal.worker.process_options import ProcessOptions
from sllmreal.worker.process_runner import process_launch
from sllmreal.worker.runner import MakeRunner
from sllmreal.worker.spares import Spares
from sllmreal.worker.storage import Storage
from sllmreal.worker.worker import Worker

_LOG = logging.getLogger(__name__)


async def work(site: Site, server: ServerSpec, storage: Storage, options: ProcessOptions) -> None:
    """Run a server's worker, with an engine process per instance, until cancelled."""

    def log(problem: str) -> None:
        _LOG.warning("%s", problem, extra={"server": server.id})

    async with Spares(options, log) as spares:
        launch = process_launch(options, spares)
        await work_with(site, server, storage, launch, note_deployed=spares.keep_for)


async def work_with(
    site: Site,
    server: ServerSpec,
    storage: Storage,
    launch: MakeRunner,
    observe: Callable[[ReportedEvent], None] = lambda event: None,
    note_deployed: Callable[[tuple[ModelDeployment, ...]], None] = lambda models: None,
) -> None:
    """Run a server's worker until cancelled.

    Args:
        site: The cluster's addresses.
        server: The server.
        storage: The server's tiers.
        launch: Makes the runner of each instance's engine.
        observe: Gets each event before it is reported, for a benchmark.
        note_deployed: Called with all deployed models at every change of them.
    """
    link, plane = LeaderLink("worker", server.id, leader_dial(site)), DataPlane()

    def report(event: ReportedEvent) -> None:
        observe(event)
        link.report(event)

    async with AsyncExitStack() as stack:
        worker = Worker(
            server=server,
            storage=storage,
            make_runner=launch,
            data_plane=plane,
            report=report,
            note_deployed=note_deployed,
        )
        stack.push_async_callback(worker.close)
        await stack.enter_async_context(serving(plane, site.worker(server.id), site.key()))
        await link.run(worker)


async def _main(arguments: argparse.Namespace) -> None:
    home, joined = opened_home(arguments.home), given_server(arguments)
    server = joined.server
    home.worker(server.id)  # a UsageError for a bad name
    async with claimed(home, f"worker {server.id}", HANDOVER_S):
        storage = opened_storage(
            server, home.ssd(server.id), paced=arguments.paced, resident=joined.resident
        )
        await work(home, server, storage, ProcessOptions(num_spares=num_spares(arguments)))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the process; see `run_process` for the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="the cluster's directory")
    server = parser.add_mutually_exclusive_group(required=True)
    server.add_argument("--server", help="the server's name; its sizes follow")
    server.add_argument(
        "--server-file",
        type=Path,
        metavar="FILE",
        help="the server's ServerJoined event as in a journal, in place of name and sizes",
    )
    add_sizes(parser)
    logs.add_log_options(parser)
    arguments = parser.parse_args(argv)
    logs.configure_as_given(arguments)
    return run_process(f"worker {arguments.server or arguments.server_file}", _main(arguments))


if __name__ == "__main__":
    sys.exit(main())
