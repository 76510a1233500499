"""`sllm store`: keep checkpoints in a pool of memory that other processes map.

A process on this machine maps a loaded checkpoint with
`sllmreal.loader.connect_store().load_checkpoint(DIR)`. No cluster is needed.
"""

import argparse
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from sllmcore.errors import UsageError

if TYPE_CHECKING:
    from sllmreal.loader.store_client import StoreClient
    from sllmreal.loader.store_messages import StoredCheckpoint, StoreStatus

DEFAULT_SOCKET = Path("~/.sllm/store.sock")
_MEMORY = Path("/proc/meminfo")


def add_store(parser: argparse.ArgumentParser) -> None:
    """Add the commands of the store to the parser of `sllm store`."""
    parser.description = __doc__
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    commands = parser.add_subparsers(dest="store_command", required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="run a store until Ctrl-C")
    serve.add_argument("--pool-gb", type=float, default=4.0, help="memory to share (default: 4)")
    serve.add_argument("--chunk-mb", type=int, default=16, help="MiB per chunk (default: 16)")
    serve.add_argument(
        "--verify-resident", action="store_true", help="hash resident chunks again at each load"
    )
    serve.set_defaults(run=_serve)
    load = commands.add_parser("load", help="load a checkpoint into the store")
    load.add_argument("path", metavar="DIR", help="checkpoint: a directory or a safetensors file")
    load.add_argument("--name", help="name in the store; default: the last part of DIR")
    load.set_defaults(run=_load)
    status = commands.add_parser("status", help="show the pool and its checkpoints")
    status.set_defaults(run=_status)
    evict = commands.add_parser("evict", help="free a checkpoint's memory")
    evict.add_argument("name", metavar="NAME", help="name, path or identity of a checkpoint")
    evict.set_defaults(run=_evict)
    for command in (serve, load, status, evict):
        command.add_argument(
            "--socket",
            type=Path,
            default=DEFAULT_SOCKET,
            help=f"Unix socket of the store (default: {DEFAULT_SOCKET})",
        )
    for command in (load, status):
        command.add_argument("--json", action="store_true", help="print JSON")


def _serve(arguments: argparse.Namespace) -> int:
    from sllmreal.loader.pool import ChunkPool
    from sllmreal.loader.store_server import StoreServer
    from sllmreal.loader.store_socket import listening_socket
    from sllmreal.loader.transfer import LoadOptions

    pool_bytes = _pool_bytes(arguments.pool_gb)
    # The socket first: a second store is refused before it allocates memory.
    with (
        listening_socket(arguments.socket) as listener,
        ChunkPool(pool_bytes, arguments.chunk_mb << 20) as pool,
    ):
        options = LoadOptions(verify_resident=arguments.verify_resident)
        server = StoreServer(pool, listener, options)

        def stop(number: int, frame: FrameType | None) -> None:
            server.stop()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        pages = "huge pages" if pool.huge_pages else "small pages"
        _print(f"store of {_size(pool.size_bytes)} ({pages}) at {arguments.socket}")
        server.serve()
    _print("store ended")
    return 0


def _pool_bytes(pool_gb: float) -> int:
    pool_bytes = int(pool_gb * 1e9)
    available_bytes = _available_bytes()
    if not 0 < pool_bytes <= available_bytes:
        raise UsageError(
            f"--pool-gb must be positive and at most the {available_bytes / 1e9:.1f} GB of memory "
            f"that are available, got {pool_gb:g}"
        )
    return pool_bytes


def _available_bytes() -> int:
    for line in _MEMORY.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    raise UsageError(f"{_MEMORY} has no MemAvailable: Linux 3.14 or later is needed")


def _load(arguments: argparse.Namespace) -> int:
    store = _client(arguments)
    show = _show_progress if sys.stderr.isatty() else None
    name = arguments.name or Path(arguments.path).absolute().name
    began_s = time.monotonic()
    loaded = store.preload(arguments.path, name=name, progress=show)
    seconds = time.monotonic() - began_s
    if arguments.json:
        _print_json(
            {
                "name": name,
                "identity": loaded.identity,
                "size_bytes": loaded.size_bytes,
                "read_bytes": loaded.read_bytes,
                "seconds": seconds,
            }
        )
        return 0
    read = "all resident" if not loaded.read_bytes else f"{_size(loaded.read_bytes)} read"
    _print(f"{name}: {_size(loaded.size_bytes)} in {seconds:.2f} s, {read}")
    return 0


def _status(arguments: argparse.Namespace) -> int:
    status = _client(arguments).status()
    if arguments.json:
        _print_json(status)
        return 0
    free, size = (_size(n * status.chunk_bytes) for n in (status.num_free, status.num_chunks))
    pages = "huge pages" if status.huge_pages else "small pages"
    _print(f"store at {arguments.socket}, process {status.pid}: {free} of {size} free, {pages}")
    _print(_table(status))
    return 0


def _evict(arguments: argparse.Namespace) -> int:
    freed_bytes = _client(arguments).evict(arguments.name)
    _print(f"{arguments.name}: {_size(freed_bytes)} freed")
    return 0


def _client(arguments: argparse.Namespace) -> "StoreClient":
    from sllmreal.loader.store_client import StoreClient

    return StoreClient(arguments.socket)


def _table(status: "StoreStatus") -> str:
    if not status.checkpoints:
        return "no checkpoint is loaded"
    rows = [("name", "resident", "used by", "identity", "path"), *map(_row, status.checkpoints)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]])
        for row in rows
    ]
    return "\n".join(lines)


def _row(one: "StoredCheckpoint") -> tuple[str, ...]:
    resident = f"{_size(one.resident_bytes)} of {_size(one.size_bytes)}"
    used_by = ", ".join(str(pid) for pid in one.used_by) or "-"
    return one.name, resident, used_by, one.identity[:12], one.path


def _show_progress(done_bytes: int, total_bytes: int) -> None:
    percent = 100.0 * done_bytes / max(total_bytes, 1)
    sys.stderr.write(f"\r{percent:5.1f} %  {_size(done_bytes)}\r")


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.2f} GB" if num_bytes >= 10**9 else f"{num_bytes / 1e6:.2f} MB"


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _print_json(value: object) -> None:
    import msgspec

    _print(msgspec.json.format(msgspec.json.encode(value)).decode())
