"""The migration benchmark: `python -m experiments.migration --out outputs/migration`.

Writes `migration.json` (rows, break-evens, the predictor's error, and what machine they were
measured on) and `migration.png`, and prints a table.
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
from experiments.benchmarks.migration.measure import Measurement
from experiments.benchmarks.migration.picture import draw
from experiments.benchmarks.migration.row import MigrationRow
from experiments.benchmarks.migration.specimens import TIMED, prepare
from experiments.benchmarks.migration.stage import MigrationBench
from sllmcore.migration_cost_model import Strategy

CONTEXTS = (128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
_MARGIN_TOKENS = 16384  # of output while a long context moves


def main(argv: Sequence[str] | None = None) -> int:
    """Measure every model and write the results."""
    arguments = _parser().parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows: list[MigrationRow] = []
    even: list[BreakEven | None] = []
    errors: list[PredictorError] = []
    for model in arguments.models:
        for dtype in ["none"] if model == TIMED else arguments.dtypes:
            measured, kv_bytes_per_token = _measured(model, dtype, arguments)
            rows += measured
            even.append(break_even(measured, kv_bytes_per_token))
            errors += predictor_errors(measured)
    result = {
        "machine": _machine(),
        "break_even": [asdict(one) for one in even if one is not None],
        "predictor": [asdict(one) for one in errors],
        "rows": [asdict(row) for row in rows],
    }
    (arguments.out / "migration.json").write_text(json.dumps(result, indent=1))
    print(table(rows))
    for one in (*even, *errors):
        if one is not None:
            print(one)
    print(draw(rows, arguments.out / "migration.png"))
    return 0


def _measured(
    model: str, dtype: str, arguments: argparse.Namespace
) -> tuple[list[MigrationRow], int]:
    context_tokens = max(arguments.contexts) + _MARGIN_TOKENS
    specimen = prepare(model, dtype, context_tokens, arguments.work, arguments.threads)
    rows = []
    with MigrationBench(specimen) as stage:
        measurement = Measurement(stage, specimen)
        for row in measurement.rows(arguments.contexts, arguments.strategies, arguments.rounds):
            sys.stderr.write(
                f"{model} {dtype} {row.asked_context_tokens} {row.strategy}: catch-up "
                f"{row.catch_up_s:.3f} s, pause {row.pause_s:.3f} s\n"
            )
            rows.append(row)
        return rows, stage.capabilities.kv_bytes_per_token


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("outputs/migration"))
    parser.add_argument("--work", type=Path, default=Path("outputs/migration-models"))
    parser.add_argument("--models", nargs="+", default=[TIMED, "llama-small"])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--contexts", nargs="+", type=int, default=list(CONTEXTS))
    parser.add_argument(
        "--strategies", nargs="+", type=Strategy, default=list(Strategy), choices=list(Strategy)
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="of torch, in each process")
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
