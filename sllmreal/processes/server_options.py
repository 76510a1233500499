"""How large a worker's server is, as the command line says it."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from sllmcore.types import ServerSpec

if TYPE_CHECKING:
    from sllmreal.worker.storage import Storage

# First beliefs, of a slow disk and a loopback copy; the estimator learns from the first load on.
_BYTES_PER_S = 1e9
_DRAM_BYTES_PER_S = 1e10


def add_sizes(parser: argparse.ArgumentParser) -> None:
    """Options that every process takes that runs workers, or has them run."""
    parser.add_argument("--gpus", type=int, default=1, help="engines at once on each worker")
    parser.add_argument(
        "--gpu-memory-gb",
        type=float,
        default=4.0,
        help="of one GPU or CPU slot; a CPU slot's is memory that is taken at the start",
    )
    parser.add_argument(
        "--dram-gb",
        type=float,
        default=4.0,
        help="cache of checkpoints in memory, which is taken at the start",
    )
    parser.add_argument("--ssd-gb", type=float, default=0.0, help="cache of fetched checkpoints")
    parser.add_argument(
        "--spares", type=int, default=1, help="engine processes booted ahead on each worker"
    )
    parser.add_argument(
        "--paced", action="store_true", help="pretend to load: for engines that need no weights"
    )


def given_sizes(arguments: argparse.Namespace) -> tuple[str, ...]:
    """The same options for a child process."""
    return (
        *("--gpus", str(arguments.gpus)),
        *("--gpu-memory-gb", str(arguments.gpu_memory_gb)),
        *("--dram-gb", str(arguments.dram_gb)),
        *("--ssd-gb", str(arguments.ssd_gb)),
        *("--spares", str(arguments.spares)),
        *(("--paced",) if arguments.paced else ()),
    )


def sized_server(arguments: argparse.Namespace, server_id: str, num_gpus: int) -> ServerSpec:
    """A server of that size. Raises UsageError for sizes that cannot be."""
    return ServerSpec(
        server_id,
        num_gpus,
        int(arguments.gpu_memory_gb * 1e9),
        int(arguments.dram_gb * 1e9),
        int(arguments.ssd_gb * 1e9),
        _BYTES_PER_S,
        _BYTES_PER_S,
        _DRAM_BYTES_PER_S,
    )


def num_spares(arguments: argparse.Namespace) -> int:
    """Pretended weights are of no use to the engines that spares are for."""
    return 0 if arguments.paced else int(arguments.spares)


def opened_storage(server: ServerSpec, ssd: Path, *, paced: bool) -> "Storage":
    """Its tiers; the copies on the SSD lie in that directory. Raises ClusterError, UsageError."""
    if paced:
        from sllmreal.worker.paced import PacedStorage

        return PacedStorage(server)
    from sllmreal.worker.storage_by_engine import StorageByEngine
    from sllmreal.worker.tiers import TierStorage  # imports torch

    return StorageByEngine(server, TierStorage(server, ssd.expanduser()))
