"""Measure the speed of the simulator.

    python -m experiments.speed                          16, 256, 4,096 GPUs, journal off and on
    python -m experiments.speed --gpus 256 --requests 10000 100000 1000000 --journal off --rounds 3
    python -m experiments.speed --rounds 1 --requests 2000     a quick look

Each measurement runs in a new process, and rounds are interleaved. To compare machines, divide the
requests per CPU-second by the bare SimPy timeouts per CPU-second of the same process
(requests_per_simpy_timeout).

Writes speed.json into --out: a row per measurement with gpus, models, journal, requests,
requests_per_cpu_s, peak_rss_bytes and the SimPy rate; a profile by module; the CPU time of a whole
`experiments.run` of 1,000 requests. Prints that folder as its last line.

Exit codes: 0 done, 1 a run failed, 2 wrong usage.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

from experiments.benchmarks.speed.cell import SpeedCell, measured, profiled
from experiments.simulation.environment import Stopwatch, environment


def main() -> int:
    """Run the command and return its exit code."""
    options, stopwatch = _options(), Stopwatch()
    switches = {"off": (False,), "on": (True,), "both": (False, True)}[options.journal]
    cells = [
        SpeedCell(traffic, gpus, requests, journal)
        for traffic in options.traffic
        for gpus in options.gpus
        for requests in options.requests
        for journal in switches
    ]
    rows = []
    for number in range(1, options.rounds + 1):
        for cell in cells:
            row = _alone(measured, cell) | {"round": number}
            rows.append(row)
            if sys.stderr.isatty():
                print(f"round {number}: {_line(row)}", file=sys.stderr)
    whole = [_whole_run_cpu_s() for _ in range(options.rounds)]
    profile = [
        row
        for traffic in options.traffic
        for gpus in options.gpus
        for row in _alone(profiled, SpeedCell(traffic, gpus, 3000, False))
    ]
    folder = Path(options.out)
    folder.mkdir(parents=True, exist_ok=True)
    result = {
        "environment": environment(stopwatch),
        "rows": rows,
        "whole_run_1000_requests_cpu_s": whole,
        "profile": profile,
    }
    (folder / "speed.json").write_text(json.dumps(result, indent=2) + "\n")
    for line in _report(rows, whole, profile):
        print(line)
    print(folder)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.speed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--gpus", type=int, nargs="+", default=[16, 256, 4096], help="sizes of the cluster"
    )
    parser.add_argument(
        "--requests", type=int, nargs="+", default=[20_000], help="requests per run (default 20000)"
    )
    parser.add_argument(
        "--traffic",
        choices=("azure_like", "cold"),
        nargs="+",
        default=["azure_like", "cold"],
        help="Azure-like requests, or requests that are all cold (default both)",
    )
    parser.add_argument(
        "--journal", choices=("off", "on", "both"), default="both", help="default both"
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds of the medians (default 5)")
    parser.add_argument(
        "--out", default="outputs/speed", help="folder to write to (default outputs/speed)"
    )
    options = parser.parse_args()
    if min(options.gpus) < 4 or any(gpus % 4 for gpus in options.gpus):
        parser.error(f"--gpus must be multiples of 4, the GPUs of one server, got {options.gpus}")
    if min(options.requests) < 1 or options.rounds < 1:
        parser.error(
            f"--requests and --rounds must be at least 1, got {options.requests} and "
            f"{options.rounds}"
        )
    return options


def _alone(measure: Any, cell: SpeedCell) -> Any:
    """Measure a cell in a new process, so that earlier cells have no effect."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure, cell).result()


def _whole_run_cpu_s() -> float:
    """Return the CPU time of a run of 1,000 requests with its imports and files."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "experiments.run", "experiment=demo"]
        command += ["workload.max_requests=1000", f"out={folder}/run"]
        before = os.times()
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603
        after = os.times()
    used_s = after.children_user + after.children_system
    return used_s - before.children_user - before.children_system


def _line(row: dict[str, Any]) -> str:
    journal = "on " if row["journal"] else "off"
    cell = f"{row['traffic']:<10} {row['gpus']:>5} GPUs {row['requests']:>8,} requests"
    return (
        f"{cell}, journal {journal}: {row['requests_per_cpu_s']:>8,.0f} requests/CPU-s, "
        f"{row['requests_per_simpy_timeout']:.4f} per SimPy timeout, "
        f"{row['peak_rss_bytes'] / 2**20:,.0f} MiB"
    )


def _report(
    rows: list[dict[str, Any]], whole: list[float], profile: list[dict[str, Any]]
) -> Iterator[str]:
    """Yield the lines of the report: medians over the rounds with their ranges, the profile."""
    names = ("traffic", "gpus", "requests", "journal")
    for key in dict.fromkeys(tuple(row[name] for name in names) for row in rows):
        same = [row for row in rows if tuple(row[name] for name in names) == key]
        rates = sorted(row["requests_per_cpu_s"] for row in same)
        middle = {
            name: median(row[name] for row in same)
            for name in ("requests_per_cpu_s", "requests_per_simpy_timeout", "peak_rss_bytes")
        }
        yield f"{_line(same[0] | middle)} ({rates[0]:,.0f} to {rates[-1]:,.0f})"
    spread = f"({min(whole):.2f} to {max(whole):.2f})"
    yield f"a whole run of 1,000 requests: {median(whole):.2f} CPU-s {spread}"
    for row in profile[:10]:
        calls = f"{row['calls_per_request']:6.1f} calls/request"
        yield f"  {row['share']:6.1%} {calls}  {row['module']}"


if __name__ == "__main__":
    sys.exit(main())
