"""A worker's process: one server of the cluster at `--home`, until it is told to stop.

python -m sllmreal.cluster.work --home DIRECTORY --server s0 --gpus 1 --memory-gb 4
"""

import argparse
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from sllmcore.types import ServerSpec
from sllmreal.cluster.attach import leader_dial
from sllmreal.cluster.home import Home, opened_home
from sllmreal.cluster.peer import LeaderLink
from sllmreal.cluster.process import run_process
from sllmreal.worker.data_plane import DataPlane, serving
from sllmreal.worker.paced import PacedStorage
from sllmreal.worker.process_options import ProcessOptions
from sllmreal.worker.process_runner import process_launch
from sllmreal.worker.spares import Spares
from sllmreal.worker.storage import Storage
from sllmreal.worker.worker import Worker

# First beliefs, of a slow disk and a loopback copy; the estimator learns from the first load on.
_BYTES_PER_S = 1e9
_DRAM_BYTES_PER_S = 1e10


async def work(home: Home, server: ServerSpec, storage: Storage, options: ProcessOptions) -> None:
    """Be that server's worker until cancelled."""

    def say(line: str) -> None:
        sys.stderr.write(f"worker {server.id}: {line}\n")

    link = LeaderLink("worker", server.id, leader_dial(home))
    plane = DataPlane()
    async with AsyncExitStack() as stack:
        spares = await stack.enter_async_context(Spares(options, say))
        worker = Worker(server, storage, process_launch(options, spares), plane, link.report)
        stack.push_async_callback(worker.close)
        await stack.enter_async_context(serving(plane, home.worker(server.id), home.key()))
        await link.run(worker)


async def _main(arguments: argparse.Namespace) -> None:
    home = opened_home(arguments.home)
    server = ServerSpec(
        arguments.server,
        arguments.gpus,
        int(arguments.gpu_memory_gb * 1e9),
        int(arguments.dram_gb * 1e9),
        int(arguments.ssd_gb * 1e9),
        _BYTES_PER_S,
        _BYTES_PER_S,
        _DRAM_BYTES_PER_S,
    )
    # Pretended weights are of no use to the engines that spares are for.
    options = ProcessOptions(num_spares=0 if arguments.paced else arguments.spares)
    await work(home, server, _storage(home, server, paced=arguments.paced), options)


def _storage(home: Home, server: ServerSpec, *, paced: bool) -> Storage:
    if paced:
        return PacedStorage(server)
    from sllmreal.worker.tiers import TierStorage  # imports torch

    return TierStorage(server, home.ssd(server.id))


def main(argv: Sequence[str] | None = None) -> int:
    """0 when told to stop; 1 when the machine is at fault, 2 for bad arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="the cluster's directory")
    parser.add_argument("--server", required=True, help="this server's name")
    parser.add_argument("--gpus", type=int, default=1, help="engines at once")
    parser.add_argument("--gpu-memory-gb", type=float, default=4.0, help="of one GPU or CPU slot")
    parser.add_argument("--dram-gb", type=float, default=4.0, help="cache of checkpoints in memory")
    parser.add_argument("--ssd-gb", type=float, default=0.0, help="cache of fetched checkpoints")
    parser.add_argument("--spares", type=int, default=1, help="engine processes booted ahead")
    parser.add_argument(
        "--paced", action="store_true", help="pretend to load: for engines without weights"
    )
    arguments = parser.parse_args(argv)
    return run_process(f"worker {arguments.server}", _main(arguments))


if __name__ == "__main__":
    sys.exit(main())
