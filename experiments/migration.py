"""Measure live migration between two engine processes.

    python -m experiments.migration --out outputs/migration

Each round migrates one request per context and strategy. Writes migration.json (rows, break-even
contexts, errors of the predictors, the machine) and migration.png into --out, and prints medians.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from experiments.benchmarks.migration.analysis import (
    BreakEven,
    PredictorError,
    break_even,
    predictor_errors,
    table,
)
from experiments.benchmarks.migration.bench import MigrationBench
from experiments.benchmarks.migration.bench_model import TIMED, is_weightless, prepare
from experiments.benchmarks.migration.measure import Measurement
from experiments.benchmarks.migration.picture import draw
from experiments.benchmarks.migration.row import MigrationRow
from experiments.benchmarks.terminal import ProgressLine, command_parser
from sllmcore.migration_cost_model import Strategy

CONTEXTS = (128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
_MARGIN_TOKENS = 16384  # output while a long context migrates


def main(argv: Sequence[str] | None = None) -> int:
    """Measure every model and write the results."""
    arguments = _parser().parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows: list[MigrationRow] = []
    break_evens: list[BreakEven | None] = []
    errors: list[PredictorError] = []
    for model in arguments.models:
        for dtype in ["none"] if is_weightless(model) else arguments.dtypes:
            measured, kv_bytes_per_token = _measured(model, dtype, arguments)
            rows += measured
            break_evens.append(break_even(measured, kv_bytes_per_token))
            errors += predictor_errors(measured)
    result = {
        "machine": _machine(),
        "break_even": [asdict(one) for one in break_evens if one is not None],
        "predictor": [asdict(one) for one in errors],
        "rows": [asdict(row) for row in rows],
    }
    (arguments.out / "migration.json").write_text(json.dumps(result, indent=1))
    print(table(rows))
    for one in (*break_evens, *errors):
        if one is not None:
            print(one)
    print(draw(rows, arguments.out / "migration.png"))
    return 0


def _measured(
    model: str, dtype: str, arguments: argparse.Namespace
) -> tuple[list[MigrationRow], int]:
    context_tokens = max(arguments.contexts) + _MARGIN_TOKENS
    bench_model = prepare(
        model=model,
        dtype=dtype,
        context_tokens=context_tokens,
        work=arguments.work,
        num_threads=arguments.threads,
    )
    rows = []
    with MigrationBench(bench_model) as bench:
        measurement = Measurement(bench, bench_model)
        num_rows = len(arguments.contexts) * len(arguments.strategies) * arguments.rounds
        with ProgressLine(f"migrations of {model} {dtype}", num_rows) as progress:
            for row in measurement.rows(arguments.contexts, arguments.strategies, arguments.rounds):
                rows.append(row)
                progress.show(
                    len(rows),
                    f"{row.asked_context_tokens} tokens, {row.strategy}: catch-up "
                    f"{row.catch_up_s:.3f} s, pause {row.pause_s:.3f} s",
                )
        return rows, bench.capabilities.kv_bytes_per_token


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("experiments.migration", __doc__)
    add = parser.add_argument
    add("--out", type=Path, default=Path("outputs/migration"), help="folder for the results")
    work = Path("outputs/migration-models")
    add("--work", type=Path, default=work, help="folder for the models, which are written once")
    models, dtypes = [TIMED, "llama-small"], ["float32", "bfloat16"]
    add("--models", nargs="+", default=models, help=f"{TIMED!r}, or names of sample models")
    add("--dtypes", nargs="+", default=dtypes, help=f"of weights, except for {TIMED!r}")
    add("--contexts", nargs="+", type=int, default=list(CONTEXTS), help="in tokens")
    strategies = list(Strategy)
    add(
        "--strategies",
        nargs="+",
        type=Strategy,
        default=strategies,
        choices=strategies,
        help="to measure",
    )
    add("--rounds", type=int, default=5, help="migrations per context and strategy")
    add("--threads", type=int, default=1, help="threads of torch in each process")
    return parser


def _machine() -> dict[str, object]:
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": "python -m experiments.migration " + " ".join(sys.argv[1:]),
        "kernel": platform.release(),
        "num_cpus": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "python": platform.python_version(),
        **{name: _version(name) for name in ("msgspec", "numpy", "torch", "transformers")},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    sys.exit(main())
