"""Compare our engine with transformers: decoding, or with --cold-start the time to a first token.

    python -m experiments.engine --out outputs/engine
    python -m experiments.engine --cold-start --cold-model llama-2-7b-l3

Rounds of both alternate within one run. Writes engine-decode.json or engine-cold-start.json (every
row, and medians with spreads) into --out, and prints the medians.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median

import torch

from experiments.benchmarks.engine import cold, decoding
from experiments.benchmarks.loading.models import DECODERS, prepare
from experiments.benchmarks.terminal import command_parser
from sllmreal.engine.samples import SAMPLES, write_sample

DTYPES = ("float32", "bfloat16", "float16")


def main(argv: list[str] | None = None) -> int:
    """Measure, print a summary, and write the results."""
    arguments = _parser().parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    arguments.work.mkdir(parents=True, exist_ok=True)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    part, rows = ("cold-start", _cold) if arguments.cold_start else ("decode", _decode)
    result = {"machine": _machine(arguments), **rows(arguments)}
    target = arguments.out / f"engine-{part}.json"
    target.write_text(json.dumps(result, indent=1))
    print(target)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("experiments.engine", __doc__)
    add = parser.add_argument
    add("--out", type=Path, default=Path("outputs/engine"), help="folder for the results")
    add(
        "--work",
        type=Path,
        default=Path("outputs/engine-models"),
        help="folder for the models, which are written once",
    )
    add("--rounds", type=int, default=5, help="measurements of each method")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    add("--device", default=device, help="torch device")
    add("--threads", type=int, default=0, help="threads of torch; 0: its own choice")
    decode = parser.add_argument_group("decoding")
    add = decode.add_argument
    add("--model", default="llama-medium", choices=SAMPLES, help="sample with random weights")
    add("--dtype", default="bfloat16", choices=DTYPES, help="of weights")
    add("--batches", type=int, nargs="+", default=[1, 8], help="sequences at once")
    add("--prompt-tokens", type=int, default=128, help="per sequence")
    add("--output-tokens", type=int, default=64, help="per sequence")
    start = parser.add_argument_group("cold start")
    add = start.add_argument
    add("--cold-start", action="store_true", help="measure cold starts, each in a new process")
    add("--cold-model", default="llama-2-7b-l3", choices=tuple(DECODERS), help="model to start")
    return parser


def _decode(arguments: argparse.Namespace) -> dict[str, object]:
    path = arguments.work / f"{arguments.model}-{arguments.dtype}"
    if not (path / "model.safetensors").exists():
        write_sample(path, arguments.model, dtype=getattr(torch, arguments.dtype))
    shapes = [
        decoding.BatchShape(batch, arguments.prompt_tokens, arguments.output_tokens)
        for batch in arguments.batches
    ]
    rows = []
    for row in decoding.compare(path, arguments.device, shapes, arguments.rounds):
        rows.append(row)
        print(
            f"batch {row.batch:2} {row.loop:9} {row.tokens_per_s:8.2f} tokens/s, decoding "
            f"{row.decode_tokens_per_s:8.2f}",
            flush=True,
        )
    summaries = [_decode_summary(rows, batch) for batch in arguments.batches]
    for summary in summaries:
        print(json.dumps(summary))
    return {"summary": summaries, "rows": [asdict(row) for row in rows]}


def _decode_summary(rows: Sequence[decoding.DecodeRow], batch: int) -> dict[str, object]:
    ours = [row for row in rows if (row.loop, row.batch) == (decoding.OURS, batch)]
    generate = [row for row in rows if (row.loop, row.batch) == (decoding.GENERATE, batch)]

    def ratios(rate: Callable[[decoding.DecodeRow], float]) -> dict[str, float]:
        return _spread([rate(one) / rate(two) for one, two in zip(ours, generate, strict=True)])

    return {
        "batch": batch,
        "ours_decode_tokens_per_s": _spread([row.decode_tokens_per_s for row in ours]),
        "generate_decode_tokens_per_s": _spread([row.decode_tokens_per_s for row in generate]),
        "decode_ratio": ratios(lambda row: row.decode_tokens_per_s),
        "total_ratio": ratios(lambda row: row.tokens_per_s),
        "overhead": _spread([row.overhead for row in ours if row.overhead is not None]),
        "overhead_step_s": _spread([row.overhead_step_s for row in ours if row.overhead_step_s]),
    }


def _cold(arguments: argparse.Namespace) -> dict[str, object]:
    model = prepare(arguments.cold_model, arguments.work)
    rows = []
    for row in cold.compare(model, arguments.device, arguments.rounds, arguments.work):
        rows.append(row)
        phases = ", ".join(f"{name} {seconds:.2f}" for name, seconds in row.start.phases.items())
        print(f"{row.how:9} {row.start.total_s:6.2f} s to the first token: {phases}", flush=True)
    summary = _cold_summary(rows)
    print(json.dumps(summary))
    return {"summary": summary, "rows": [asdict(row) for row in rows]}


def _cold_summary(rows: Sequence[cold.ColdRow]) -> dict[str, object]:
    """Return seconds and phases of each method, and the speed-up of ours over transformers."""
    methods = dict.fromkeys(row.how for row in rows)
    starts = {how: [row.start for row in _in_rounds(rows, how)] for how in methods}
    phases = {
        how: {name: _spread([one.phases[name] for one in some]) for name in some[0].phases}
        for how, some in starts.items()
    }
    ours = [how for how in methods if how not in (cold.FRESH, cold.IMPORTED)]
    return {
        "total_s": {how: _spread([one.total_s for one in some]) for how, some in starts.items()},
        "phases_s": phases,
        "speed_up": {
            f"{our} over {other}": _spread(
                [
                    two.total_s / one.total_s
                    for one, two in zip(starts[our], starts[other], strict=True)
                ]
            )
            for our in ours
            for other in (cold.FRESH, cold.IMPORTED)
        },
    }


def _in_rounds(rows: Sequence[cold.ColdRow], how: str) -> list[cold.ColdRow]:
    return sorted((row for row in rows if row.how == how), key=lambda row: row.round)


def _spread(numbers: Sequence[float]) -> dict[str, float]:
    return {"median": median(numbers), "least": min(numbers), "most": max(numbers)}


def _machine(arguments: argparse.Namespace) -> dict[str, object]:
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": "python -m experiments.engine " + " ".join(sys.argv[1:]),
        "kernel": platform.release(),
        "processor": _processor(),
        "num_cpus": os.cpu_count(),
        "num_threads": torch.get_num_threads(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpu": torch.cuda.get_device_name() if arguments.device != "cpu" else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": version("transformers"),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


if __name__ == "__main__":
    sys.exit(main())
