"""A worker's process: one server of the cluster at `--home`, until it is told to stop.

python -m sllmreal.cluster.work --home DIRECTORY --server s0 --gpus 1 --memory-gb 4
"""

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from sllmcore.errors import SllmError, UsageError
from sllmcore.types import ServerSpec
from sllmreal.cluster.channel import dial
from sllmreal.cluster.home import Home, opened_home
from sllmreal.cluster.messages import FromLeader
from sllmreal.cluster.peer import LeaderChannel, LeaderLink
from sllmreal.worker.data_plane import DataPlane, serving
from sllmreal.worker.paced import PacedStorage
from sllmreal.worker.process_runner import process_launch
from sllmreal.worker.storage import Storage
from sllmreal.worker.worker import Worker

# First beliefs, of a slow disk and a loopback copy; the estimator learns from the first load on.
_BYTES_PER_S = 1e9
_DRAM_BYTES_PER_S = 1e10


async def work(home: Home, server: ServerSpec, storage: Storage) -> None:
    """Be that server's worker until cancelled."""
    key = home.key()

    async def dial_leader() -> LeaderChannel:
        return await dial(home.leader, key, FromLeader)

    link = LeaderLink("worker", server.id, dial_leader)
    plane = DataPlane()
    worker = Worker(server, storage, process_launch(), plane, link.report)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(worker.close)
        await stack.enter_async_context(serving(plane, home.worker(server.id), key))
        await link.run(worker)


async def _main(home: Home, server: ServerSpec, *, paced: bool) -> None:
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        await work(home, server, _storage(home, server, paced=paced))
    except asyncio.CancelledError:
        return


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
    parser.add_argument(
        "--paced", action="store_true", help="pretend to load: for engines without weights"
    )
    arguments = parser.parse_args(argv)
    try:
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
        asyncio.run(_main(opened_home(arguments.home), server, paced=arguments.paced))
    except SllmError as error:
        sys.stderr.write(f"worker {arguments.server}: {error}\n")
        return 2 if isinstance(error, UsageError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
