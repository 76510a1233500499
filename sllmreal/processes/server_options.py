"""The options that give the sizes of a worker's server."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from sllmcore.errors import UsageError
from sllmcore.events import ServerJoined
from sllmcore.journal import from_plain
from sllmcore.types import Residency, ServerSpec
from sllmreal.processes.machine_memory import check_memory

if TYPE_CHECKING:
    from sllmreal.worker.storage import Storage

# First estimates, for a slow disk and a copy over loopback; the estimator learns from each load.
_BYTES_PER_S = 1e9
_DRAM_BYTES_PER_S = 1e10


def add_sizes(parser: argparse.ArgumentParser) -> None:
    """Add the options of the processes that run workers or have them run."""
    parser.add_argument("--gpus", type=int, default=1, help="GPUs or CPU slots of each worker")
    parser.add_argument(
        "--gpu-memory-gb",
        type=float,
        default=4.0,
        help="memory of one GPU or CPU slot; that of CPU slots is allocated at the start",
    )
    parser.add_argument(
        "--dram-gb",
        type=float,
        default=4.0,
        help="size of the cache of checkpoints in memory, which is allocated at the start",
    )
    parser.add_argument(
        "--ssd-gb", type=float, default=0.0, help="size of the cache of checkpoints on the SSD"
    )
    parser.add_argument(
        "--spares",
        type=int,
        default=1,
        help="engine processes that each worker starts in advance, per kind of engine in use",
    )
    parser.add_argument(
        "--paced", action="store_true", help="emulate loads without bytes (for engine `timed`)"
    )


def given_sizes(arguments: argparse.Namespace) -> tuple[str, ...]:
    """Return the same options for a child process."""
    return (
        *("--gpus", str(arguments.gpus)),
        *("--gpu-memory-gb", str(arguments.gpu_memory_gb)),
        *("--dram-gb", str(arguments.dram_gb)),
        *("--ssd-gb", str(arguments.ssd_gb)),
        *("--spares", str(arguments.spares)),
        *(("--paced",) if arguments.paced else ()),
    )


def given_server(arguments: argparse.Namespace) -> ServerJoined:
    """Return the server of `--server-file`, or of `--server` and the sizes.

    Raises:
        UsageError: The file is unreadable or malformed, or a size is impossible.
    """
    if arguments.server_file is None:
        return ServerJoined(sized_server(arguments, arguments.server, arguments.gpus))
    file: Path = arguments.server_file
    try:
        joined: ServerJoined = from_plain(ServerJoined, json.loads(file.read_text()))
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{file} is not a ServerJoined event: {error}") from error
    return joined


def sized_server(arguments: argparse.Namespace, server_id: str, num_gpus: int) -> ServerSpec:
    """Return a server of the given sizes. Raises UsageError if a size is impossible."""
    return ServerSpec(
        id=server_id,
        num_gpus=num_gpus,
        gpu_memory_bytes=int(arguments.gpu_memory_gb * 1e9),
        dram_bytes=int(arguments.dram_gb * 1e9),
        ssd_bytes=int(arguments.ssd_gb * 1e9),
        remote_bytes_per_s=_BYTES_PER_S,
        ssd_bytes_per_s=_BYTES_PER_S,
        dram_bytes_per_s=_DRAM_BYTES_PER_S,
    )


def num_spares(arguments: argparse.Namespace) -> int:
    """Return the number of spares; 0 with emulated loads, for engines without weights."""
    return 0 if arguments.paced else int(arguments.spares)


def opened_storage(
    server: ServerSpec, ssd: Path, *, paced: bool, resident: tuple[Residency, ...] = ()
) -> "Storage":
    """Open a server's tiers.

    Args:
        server: The server.
        ssd: Directory of the SSD tier.
        paced: Emulate loads without bytes.
        resident: The models in the emulated tiers at the start.

    Raises:
        UsageError: A size is impossible, or `resident` is given for real tiers.
        ClusterError: The directory or the memory is not available.
    """
    if paced:
        from sllmreal.worker.paced import PacedStorage

        return PacedStorage(server, resident)
    if resident:
        raise UsageError(f"server {server.id}: only the tiers of --paced can begin with models")

    check_memory(1, server.dram_bytes / 1e9, server.num_gpus, server.gpu_memory_bytes / 1e9)
    from sllmreal.worker.storage_by_engine import StorageByEngine
    from sllmreal.worker.tiers import TierStorage  # imports torch

    return StorageByEngine(server, TierStorage(server, ssd.expanduser()))
