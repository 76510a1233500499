"""The loading benchmark: `python -m experiments.loading --out outputs/loading`.

Writes `loading.json` (the rows and the machine) and the pictures. If the disk is slower than every
loader, `--medium ram` uses a fast block device of memory instead.
"""

import argparse
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import torch

from experiments.benchmarks.loading.breakdown import ALL_STEPS, gains
from experiments.benchmarks.loading.campaign import breakdown, compare, compare_hot, on_media
from experiments.benchmarks.loading.loaders import available
from experiments.benchmarks.loading.medium import RAM, NoMediumError, ram_device
from experiments.benchmarks.loading.models import (
    MODELS,
    PreparedModel,
    prepare,
    size_in_all_formats,
)
from experiments.benchmarks.loading.overlap import measure_overlap
from experiments.benchmarks.loading.pictures import draw
from experiments.benchmarks.loading.remote import over_links
from experiments.benchmarks.loading.row import DISK, LORA, LoadingRow
from experiments.benchmarks.loading.summary import line, summary
from experiments.benchmarks.loading.throttle import can_throttle, throttled

PARTS = ("compare", "hot", "breakdown", "media", "remote", "overlap")
# The paper's five media, as rates that a virtual disk can reach.
MEDIA_BYTES_PER_S = {
    "MinIO 1 Gbit/s": 125e6,
    "SATA": 250e6,
    "RAID0-SATA": 500e6,
    "two RAID0-SATA": 1000e6,
    "NVMe": 2000e6,
}
MEDIA_MODEL = "llama-2-7b-l1"


def main(argv: list[str] | None = None) -> int:
    """Run the chosen parts and write the results; return 0 if there are rows."""
    arguments = _parser().parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        if arguments.medium == "ram":
            try:
                arguments.work = stack.enter_context(ram_device(_device_bytes(arguments)))
            except NoMediumError as error:
                sys.stderr.write(f"--medium ram is not possible: {error}\n")
                return 2
        rows, extra = _all_parts(arguments)
    earlier = [json.loads(path.read_text()) for path in arguments.add]
    rows = [LoadingRow(**row) for one in earlier for row in one["rows"]] + rows
    for one in earlier:
        if "overlap" in one:
            extra.setdefault("overlap", one["overlap"])
    extra["gains"] = _gains(rows)
    extra["earlier"] = [one["machine"] for one in earlier]
    result = {"machine": _machine(arguments), **extra, "rows": [asdict(row) for row in rows]}
    (arguments.out / "loading.json").write_text(json.dumps(result, indent=1))
    print(summary(rows))
    for picture in draw(rows, arguments.out):
        print(picture)
    return 0 if rows or extra.get("overlap") else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("outputs/loading"))
    parser.add_argument("--work", type=Path, default=Path("outputs/loading-models"))
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=(*PARTS, "none"))
    parser.add_argument(
        "--add",
        nargs="+",
        type=Path,
        default=[],
        metavar="JSON",
        help="results of earlier runs of other parts or models; their rows come first",
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--loaders", nargs="+", help="compare only these loaders")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--medium",
        choices=("disk", "ram"),
        default="disk",
        help="medium of the models: --work, or a block device of memory (needs root)",
    )
    return parser


def _all_parts(arguments: argparse.Namespace) -> tuple[list[LoadingRow], dict[str, object]]:
    rows: list[LoadingRow] = []
    extra: dict[str, object] = {}
    for part in arguments.parts:
        if part == "none":  # only the rows of --add
            continue
        if part == "overlap":
            extra["overlap"] = _overlap(arguments)
            continue
        for row in _measured(part, arguments):
            rows.append(row)
            print(line(row), flush=True)
    return rows, extra


def _measured(part: str, arguments: argparse.Namespace) -> Iterator[LoadingRow]:
    rounds = arguments.rounds
    medium = RAM if arguments.medium == "ram" else DISK
    if part == "compare":
        for name in arguments.models:
            yield from compare(*_compared(name, arguments), rounds, arguments.device, medium)
    elif part == "hot":
        for name in arguments.models:
            yield from compare_hot(*_compared(name, arguments), rounds, arguments.device, medium)
    elif part == "breakdown":
        for name in arguments.models:
            if name != LORA:
                yield from breakdown(_prepared(name, arguments), rounds, medium)
    elif part == "remote":
        yield from over_links(_prepared(MEDIA_MODEL, arguments), rounds, medium)
    elif can_throttle():
        model = _prepared(MEDIA_MODEL, arguments)

        def throttle(pid: int, bytes_per_s: float) -> AbstractContextManager[object]:
            return throttled(arguments.work, pid, bytes_per_s)

        yield from on_media(
            model=model,
            rates_bytes_per_s=MEDIA_BYTES_PER_S,
            throttle=throttle,
            rounds=rounds,
            medium=medium,
        )
    else:
        sys.stderr.write(
            "media are not emulated: this machine has no blkio controller to limit reads\n"
        )


def _compared(name: str, arguments: argparse.Namespace) -> tuple[PreparedModel, list[str]]:
    """Return a model and the loaders to compare on it."""
    chosen = arguments.loaders
    loaders = [one for one in available(name) if chosen is None or one in chosen]
    return _prepared(name, arguments), loaders


def _prepared(name: str, arguments: argparse.Namespace) -> PreparedModel:
    """Prepare the model's files; on a device of memory, remove other models first."""
    if arguments.medium == "ram":
        for other in arguments.work.iterdir():
            if other.name not in (name, "lost+found"):
                shutil.rmtree(other)
    return prepare(name, arguments.work)


def _device_bytes(arguments: argparse.Namespace) -> int:
    """Return the size for the largest model, and for a copy from remote storage."""
    names = {*arguments.models, MEDIA_MODEL}
    return max(size_in_all_formats(name) for name in names) + (1 << 30)


def _overlap(arguments: argparse.Namespace) -> list[dict[str, float]]:
    model = _prepared(arguments.models[-1], arguments)
    measured = [
        measure_overlap(model.native, passes)
        for passes in (1, 4, 8)
        for _ in range(arguments.rounds)
    ]
    return [asdict(one) | {"ratio": one.ratio} for one in measured]


def _gains(rows: list[LoadingRow]) -> dict[str, dict[str, float]]:
    """Return the speed-up of each step, and the product, of every model with a breakdown."""
    by_model: dict[str, dict[str, float]] = {}
    for model in dict.fromkeys(row.model for row in rows if row.loader in ALL_STEPS):
        seconds = {}
        for step in ALL_STEPS:
            times = [row.seconds for row in rows if (row.model, row.loader) == (model, step)]
            if times:
                seconds[step] = median(times)
        by_model[model] = gains(seconds)
    return by_model


def _machine(arguments: argparse.Namespace) -> dict[str, object]:
    gpu = torch.cuda.get_device_name() if arguments.device != "cpu" else None
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": "python -m experiments.loading " + " ".join(sys.argv[1:]),
        "kernel": platform.release(),
        "num_cpus": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "gpu": gpu,
    }


if __name__ == "__main__":
    sys.exit(main())
