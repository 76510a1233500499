"""Convert, verify, inspect and export checkpoints."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from sllmcore.errors import SllmError, UsageError
from sllmreal.checkpoint.convert import WriteOptions, convert
from sllmreal.checkpoint.export import DEFAULT_SHARD_BYTES, export_safetensors
from sllmreal.checkpoint.layout import Layout
from sllmreal.checkpoint.source import read_layout
from sllmreal.checkpoint.verify import verify
from sllmreal.checkpoint.writer import Progress


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0: done; 1: a disk fails or a checkpoint's bytes are wrong; 2: bad arguments or files.
    """
    arguments = _parser().parse_args(argv)
    try:
        _run(arguments)
    except UsageError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except SllmError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sllm checkpoint", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    converting = commands.add_parser(
        "convert", help="convert safetensors, PyTorch files or an adapter"
    )
    converting.add_argument("source", type=Path, help="file or directory of weights")
    converting.add_argument("target", type=Path, help="new directory")
    converting.add_argument(
        "--partitions", type=int, default=1, help="files to split into, one per GPU"
    )
    converting.add_argument(
        "--replace", action="store_true", help="replace the checkpoint at TARGET"
    )
    verifying = commands.add_parser("verify", help="read a checkpoint and check every hash")
    verifying.add_argument("path", type=Path)
    inspecting = commands.add_parser("inspect", help="describe a checkpoint")
    inspecting.add_argument("path", type=Path)
    inspecting.add_argument("--json", action="store_true", help="describe every tensor, as JSON")
    exporting = commands.add_parser("export", help="convert a checkpoint to safetensors")
    exporting.add_argument("source", type=Path)
    exporting.add_argument("target", type=Path)
    exporting.add_argument("--max-shard-bytes", type=int, default=DEFAULT_SHARD_BYTES)
    return parser


def _run(arguments: argparse.Namespace) -> None:
    progress = _progress_bar() if sys.stderr.isatty() else None
    match arguments.command:
        case "convert":
            options = WriteOptions(arguments.partitions, replace=arguments.replace)
            layout = convert(arguments.source, arguments.target, options, progress)
            _print(f"{layout.path}: {len(layout.tensors)} tensors, {layout.size_bytes} bytes")
            _print(f"identity {layout.identity}")
        case "verify":
            done = verify(arguments.path, progress)
            _print(f"{done.num_bytes} bytes in {done.num_chunks} chunks are sound")
            _print(f"identity {done.layout.identity}")
        case "inspect":
            layout = read_layout(arguments.path)
            _print(_as_json(layout) if arguments.json else _summary(layout))
        case "export":
            written = export_safetensors(
                arguments.source, arguments.target, arguments.max_shard_bytes, progress
            )
            _print("\n".join(str(file) for file in written))


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")


def _progress_bar() -> Progress:
    def show(done_bytes: int, total_bytes: int) -> None:
        percent = 100.0 * done_bytes / max(total_bytes, 1)
        end = "\n" if done_bytes >= total_bytes else ""
        sys.stderr.write(f"\r{percent:5.1f} %  {done_bytes / 1e9:.2f} GB{end}")

    return show


def _summary(layout: Layout) -> str:
    dtypes: dict[str, int] = {}
    for tensor in layout.tensors:
        dtypes[tensor.dtype] = dtypes.get(tensor.dtype, 0) + 1
    lines = [
        f"path        {layout.path}",
        f"identity    {layout.identity}",
        f"hashes      {f'every {layout.chunk_bytes} bytes' if layout.chunk_bytes else 'none'}",
        f"size        {layout.size_bytes} bytes in {len(layout.partitions)} file(s)",
        f"tensors     {len(layout.tensors)}",
        *(f"  {dtype:<20}{count}" for dtype, count in sorted(dtypes.items())),
        *(f"metadata    {key} = {value[:60]}" for key, value in layout.metadata.items()),
        *(f"asset       {asset.file} ({asset.size_bytes} bytes)" for asset in layout.assets),
    ]
    return "\n".join(lines)


def _as_json(layout: Layout) -> str:
    described = {
        "identity": layout.identity,
        "chunk_bytes": layout.chunk_bytes,
        "partitions": [
            {"file": part.file, "size_bytes": part.size_bytes} for part in layout.partitions
        ],
        "tensors": layout.tensors,
        "metadata": layout.metadata,
        "assets": layout.assets,
    }
    return msgspec.json.encode(described).decode()
