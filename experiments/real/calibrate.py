"""`python -m experiments.real.calibrate`: what an idle real cluster takes, as a driver preset.

A bench of requests, one at a time, is replayed against one server with one GPU, and read from the
same files as any run. First come cold starts, of a model of next to no bytes and of one whose
transfer is longer than a boot, in turn; then answers of a warm instance. With T the time from the
decision to the first token and the engine's own sleep left out,

    ready          = launch - transfer                     of the large model
    boot           = launch - transfer - ready             of the small one
    prompt_token_s = (T(long) - T(short)) / (difference of their tokens)
    first_token_s  = T(short) - its tokens * prompt_token_s
    token_s        = (end - first token) / (tokens - 1)    of a long answer
    sequence_s     = the same with all slots taken, less token_s, per further sequence
    load_share     = size / declared bandwidth / transfer  of the large model

Each is a median; `boot` and `ready` have their largest as p99. Generated models all have one size
and load faster than they boot, so that `boot` is all that is not transfer.
"""

import argparse
import sys
import tempfile
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from experiments.composing import composed_run
from experiments.config.real import Calibration, RealSettings
from experiments.config.run_config import RunConfig
from experiments.real.bench import Bench, bench_jobs, bench_models, bench_plan
from experiments.real.bench_reading import read_bench
from experiments.real.cluster import RealCluster
from experiments.real.possible import real_settings
from experiments.real.system import Workload
from experiments.simulation.environment import Stopwatch, environment
from sllmcore.plugins import PLUGINS, references_in

LONG_TRANSFER_S = 3.0  # longer than a timed engine boots


def main() -> int:
    """Print a preset for `configs/driver`; returns 0."""
    usual = Bench()
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("overrides", nargs="*", default=["driver=real", "experiment=real"])
    parser.add_argument("--cold-starts", type=int, default=usual.cold_starts)
    parser.add_argument("--gap-s", type=float, default=usual.gap_s)
    arguments = parser.parse_args()
    PLUGINS.allow(references_in(arguments.overrides))
    config, stopwatch = composed_run(arguments.overrides), Stopwatch()
    settings = real_settings(config)
    bench = Bench(arguments.cold_starts, gap_s=arguments.gap_s)
    calibration = calibrated(config, settings, bench)
    sys.stdout.write(preset_text(settings, calibration, environment(stopwatch)))
    return 0


def calibrated(
    config: RunConfig,
    settings: RealSettings,
    bench: Bench,
    long_transfer_s: float = LONG_TRANSFER_S,
) -> Calibration:
    """Run the bench on one server of the config's kind, with one GPU."""
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        models = bench_models(config, settings, folder, long_transfer_s)
        jobs = tuple(bench_jobs(bench, models))
        plan = bench_plan(config, settings, models)
        RealCluster(plan).replay(Workload(models, jobs, settings.max_send_lag_s), folder)
        return read_bench(folder, *models, plan.servers[0].bytes_per_s)


def preset_text(settings: RealSettings, calibration: Calibration, machine: dict[str, Any]) -> str:
    """A driver's YAML, with where and when it was measured."""
    real = _rounded(asdict(replace(settings, calibration=calibration)))
    commit = (machine["git"] or {}).get("commit", "unknown")
    lines = (
        f"# Measured {datetime.now(UTC):%Y-%m-%d} on {machine['num_cpus']} x {machine['cpu']},",
        f"# Python {machine['python']}, commit {str(commit)[:12]}, by",
        f"# {' '.join(machine['command'])}",
        yaml.safe_dump({"kind": "real", "real": real}, sort_keys=False),
    )
    return "\n".join(lines)


def _rounded(plain: Any) -> Any:
    if isinstance(plain, dict):
        return {key: _rounded(value) for key, value in plain.items()}
    return round(plain, 6) if isinstance(plain, float) else plain


if __name__ == "__main__":
    sys.exit(main())
