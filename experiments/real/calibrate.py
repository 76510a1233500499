"""`python -m experiments.real.calibrate`: measure an idle real cluster, for a driver preset.

A bench of requests, one at a time, is replayed against one server with one GPU, and read from the
same files as any run. First come cold starts, alternately of a model with almost no bytes and of a
model with a transfer that is longer than a boot; then answers of a warm instance. With T the time
from the decision to the first token, without the engine's own sleep,

    ready          = launch - transfer                     of the large model
    boot           = launch - transfer - ready             of the small one
    prompt_token_s = (T(long) - T(short)) / (difference of their tokens)
    first_token_s  = T(short) - its tokens * prompt_token_s
    token_s        = (end - first token) / (tokens - 1)    of a long answer
    sequence_s     = the same with all slots taken, less token_s, per further sequence
    load_share     = size / declared bandwidth / transfer  of the large model

Each is a median; the p99 of `boot` and `ready` is the largest value. Generated models all have the
same size and load faster than they boot, so `boot` is then the cold start without the transfer.
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
from experiments.real.bench import RealBench, bench_models, bench_plan, bench_requests
from experiments.real.bench_reading import read_bench
from experiments.real.cluster import RealCluster
from experiments.real.possible import real_settings
from experiments.real.system import Workload
from experiments.simulation.environment import Stopwatch, environment
from sllmcore.plugins import PLUGINS, references_in

LONG_TRANSFER_S = 3.0  # longer than a timed engine takes to boot


def main() -> int:
    """Print a preset for `configs/driver`; return 0."""
    usual = RealBench()
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("overrides", nargs="*", default=["driver=real", "experiment=real"])
    parser.add_argument("--cold-starts", type=int, default=usual.cold_starts)
    parser.add_argument("--gap-s", type=float, default=usual.gap_s)
    arguments = parser.parse_args()
    PLUGINS.allow(references_in(arguments.overrides))
    config, stopwatch = composed_run(arguments.overrides), Stopwatch()
    settings = real_settings(config)
    bench = RealBench(arguments.cold_starts, gap_s=arguments.gap_s)
    calibration = calibrated(config, settings, bench)
    sys.stdout.write(preset_text(settings, calibration, environment(stopwatch)))
    return 0


def calibrated(
    config: RunConfig,
    settings: RealSettings,
    bench: RealBench,
    long_transfer_s: float = LONG_TRANSFER_S,
) -> Calibration:
    """Run the bench on the config's first server with one GPU; return the calibration."""
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        models = bench_models(config, settings, folder, long_transfer_s)
        requests = tuple(bench_requests(bench, models))
        plan = bench_plan(config, settings, models)
        RealCluster(plan).replay(Workload(models, requests, settings.max_send_lag_s), folder)
        return read_bench(folder, *models, plan.servers[0].bytes_per_s)


def preset_text(settings: RealSettings, calibration: Calibration, machine: dict[str, Any]) -> str:
    """Return a driver's YAML; a comment names machine, date and command."""
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
