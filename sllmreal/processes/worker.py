"""A worker's process: one server of the cluster at `--home`, until it is told to stop.

python -m sllmreal.processes.worker --home DIRECTORY --server s0 --gpus 1 --dram-gb 4
"""

import argparse
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from sllmcore.types import ServerSpec
from sllmreal.control.home import opened_home
from sllmreal.control.leader_link import LeaderLink
from sllmreal.control.site import Site, leader_dial
from sllmreal.processes.run import run_process
from sllmreal.processes.server_options import add_sizes, num_spares, opened_storage, sized_server
from sllmreal.worker.data_plane import DataPlane, serving
from sllmreal.worker.process_options import ProcessOptions
from sllmreal.worker.process_runner import process_launch
from sllmreal.worker.spares import Spares
from sllmreal.worker.storage import Storage
from sllmreal.worker.worker import Worker


async def work(site: Site, server: ServerSpec, storage: Storage, options: ProcessOptions) -> None:
    """Be that server's worker until cancelled."""

    def say(line: str) -> None:
        sys.stderr.write(f"worker {server.id}: {line}\n")

    link = LeaderLink("worker", server.id, leader_dial(site))
    plane = DataPlane()
    async with AsyncExitStack() as stack:
        spares = await stack.enter_async_context(Spares(options, say))
        worker = Worker(server, storage, process_launch(options, spares), plane, link.report)
        stack.push_async_callback(worker.close)
        await stack.enter_async_context(serving(plane, site.worker(server.id), site.key()))
        await link.run(worker)


async def _main(arguments: argparse.Namespace) -> None:
    home = opened_home(arguments.home)
    server = sized_server(arguments, arguments.server, arguments.gpus)
    storage = opened_storage(server, home.ssd(server.id), paced=arguments.paced)
    await work(home, server, storage, ProcessOptions(num_spares=num_spares(arguments)))


def main(argv: Sequence[str] | None = None) -> int:
    """0 when told to stop; 1 when the machine is at fault, 2 for bad arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="the cluster's directory")
    parser.add_argument("--server", required=True, help="this server's name")
    add_sizes(parser)
    arguments = parser.parse_args(argv)
    return run_process(f"worker {arguments.server}", _main(arguments))


if __name__ == "__main__":
    sys.exit(main())
