"""The loading benchmark: `python -m experiments.loading --out outputs/loading`.

Writes `loading.json` (rows, and what machine they were measured on) and the pictures.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import torch

from experiments.loading.breakdown import ALL_STEPS, gains
from experiments.loading.campaign import Row, breakdown, compare, on_media
from experiments.loading.models import LORA, MODELS, Prepared, prepare
from experiments.loading.overlap import measure_overlap
from experiments.loading.pictures import draw
from experiments.loading.remote import over_links
from experiments.loading.throttle import can_throttle, throttled

PARTS = ("compare", "breakdown", "media", "remote", "overlap")
# The paper's five media, as rates that one virtual disk can still follow.
MEDIA_BYTES_PER_S = {
    "MinIO 1 Gbit/s": 125e6,
    "SATA": 250e6,
    "RAID0-SATA": 500e6,
    "two RAID0-SATA": 1000e6,
    "NVMe": 2000e6,
}
MEDIA_MODEL = "llama-2-7b-l1"


def main(argv: list[str] | None = None) -> int:
    """Run the parts chosen and write the results; 0 when rows were measured."""
    arguments = _parser().parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    extra: dict[str, object] = {}
    for part in arguments.parts:
        if part == "overlap":
            extra["overlap"] = _overlap(arguments)
            continue
        for row in _measured(part, arguments):
            rows.append(row)
            print(
                f"{row.model:22} {row.loader:24} {row.cache:10} {row.seconds:8.3f} s "
                f"{row.bytes_per_s / 1e9:7.2f} GB/s  {_share(row)}",
                flush=True,
            )
    extra["gains"] = _gains(rows)
    result = {"machine": _machine(arguments), **extra, "rows": [asdict(row) for row in rows]}
    (arguments.out / "loading.json").write_text(json.dumps(result, indent=1))
    _summarise(rows)
    for picture in draw(rows, arguments.out):
        print(picture)
    return 0 if rows or extra else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("outputs/loading"))
    parser.add_argument("--work", type=Path, default=Path("outputs/loading-models"))
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser


def _measured(part: str, arguments: argparse.Namespace) -> Iterator[Row]:
    rounds = arguments.rounds
    if part == "compare":
        for name in arguments.models:
            yield from compare(prepare(name, arguments.work), rounds, arguments.device)
    elif part == "breakdown":
        for name in arguments.models:
            if name != LORA:
                yield from breakdown(prepare(name, arguments.work), rounds)
    elif part == "remote":
        yield from over_links(prepare(MEDIA_MODEL, arguments.work), rounds)
    elif can_throttle():
        model: Prepared = prepare(MEDIA_MODEL, arguments.work)

        def throttle(pid: int, rate: float) -> object:
            return throttled(arguments.work, pid, rate)

        yield from on_media(model, MEDIA_BYTES_PER_S, throttle, rounds)
    else:
        sys.stderr.write("media are not emulated: this machine does not let us limit reads\n")


def _overlap(arguments: argparse.Namespace) -> list[dict[str, float]]:
    model = prepare(arguments.models[-1], arguments.work)
    measured = [
        measure_overlap(model.native, passes)
        for passes in (1, 4, 8)
        for _ in range(arguments.rounds)
    ]
    return [asdict(one) | {"ratio": one.ratio} for one in measured]


def _gains(rows: list[Row]) -> dict[str, dict[str, float]]:
    """Of every model that has a breakdown: the gain of each step, and the product."""
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


def _summarise(rows: list[Row]) -> None:
    """Medians by model, cache and loader."""
    print(f"\n{'model':22} {'cache':10} {'loader':24} {'GB/s':>7} {'of limit':>8} {'peak/size':>9}")
    for key in dict.fromkeys((row.model, row.cache, row.loader) for row in rows):
        same = [row for row in rows if (row.model, row.cache, row.loader) == key]
        rate = median(row.bytes_per_s for row in same) / 1e9
        shares = [row.ratio_to_limit for row in same if row.ratio_to_limit is not None]
        peaks = [row.peak_rss_bytes / row.size_bytes for row in same if row.peak_rss_bytes]
        share = f"{median(shares):8.2f}" if shares else " " * 8
        peak = f"{median(peaks):9.2f}" if peaks else ""
        print(f"{key[0]:22} {key[1]:10} {key[2]:24} {rate:7.2f} {share} {peak}")


def _share(row: Row) -> str:
    return "" if row.ratio_to_limit is None else f"{row.ratio_to_limit:5.2f} of the limit"


if __name__ == "__main__":
    sys.exit(main())
