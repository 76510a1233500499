"""Benchmark of the gateway under overload.

    python -m experiments.gateway                          every scenario, three rounds
    python -m experiments.gateway --rounds 1 --seconds 5   a quick look

This process generates requests. The gateway runs in a process of its own, with a backend of fixed
capacity. Writes gateway.json into --out and prints a table of medians over the rounds.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from statistics import median

from experiments.benchmarks.gateway.fixed_backend import Capacity
from experiments.benchmarks.gateway.scenarios import SCENARIOS, GatewayRow, Schedule, measure
from experiments.benchmarks.gateway.server import serving
from experiments.simulation.environment import Stopwatch, environment


def main(argv: list[str] | None = None) -> int:
    """Run the scenarios of the command line, write the results and print a table."""
    options, stopwatch = _options(argv), Stopwatch()
    capacity = Capacity(options.slots, options.token_ms / 1e3, options.tokens)
    rows = []
    for number in range(1, options.rounds + 1):
        for scenario in SCENARIOS:
            if scenario.name not in options.scenarios:
                continue
            schedule = Schedule(options.seconds, options.slo_s, number)
            with serving(capacity, options.waiting) as served:
                rows.append(asyncio.run(measure(served, capacity, scenario, schedule)))
            if sys.stderr.isatty():
                print(_line([rows[-1]]), file=sys.stderr)
    options.out.mkdir(parents=True, exist_ok=True)
    result = {
        "environment": environment(stopwatch),
        "capacity": asdict(capacity) | {"requests_per_s": capacity.requests_per_s},
        "waiting": options.waiting,
        "seconds": options.seconds,
        "slo_s": options.slo_s,
        "rows": [asdict(row) for row in rows],
    }
    (options.out / "gateway.json").write_text(json.dumps(result, indent=2) + "\n")
    for line in _table(rows):
        print(line)
    print(options.out)
    return 0


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.gateway",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [scenario.name for scenario in SCENARIOS]
    parser.add_argument("--scenarios", nargs="+", default=names, choices=names)
    parser.add_argument("--seconds", type=float, default=15.0, help="measured per scenario")
    parser.add_argument("--rounds", type=int, default=3, help="of all scenarios")
    parser.add_argument("--slots", type=int, default=32, help="of the backend")
    parser.add_argument("--tokens", type=int, default=16, help="of each response")
    parser.add_argument(
        "--token-ms", type=float, default=40.0, help="time per token of the backend"
    )
    parser.add_argument("--waiting", type=int, default=64, help="limit of the gateway's queue")
    parser.add_argument(
        "--slo-s", type=float, default=3.0, help="objective of the time to the first token"
    )
    parser.add_argument("--out", type=Path, default=Path("outputs/gateway"), help="directory")
    options = parser.parse_args(argv)
    if min(options.slots, options.tokens, options.token_ms, options.rounds, options.seconds) <= 0:
        parser.error("--slots, --tokens, --token-ms, --rounds and --seconds must be positive")
    return options


def _table(rows: list[GatewayRow]) -> Iterator[str]:
    """Yield a header, and a line for each scenario: medians over the rounds."""
    yield (
        f"{'scenario':<22}{'offered/s':>10}{'goodput/s':>10}{'of cap.':>9}{'completed':>11}"
        f"{'refused':>9}"
        f"{'other':>7}{'TTFT p50':>10}{'p99':>8}{'refusal p99':>13}{'RSS MiB':>9}{'CPU':>6}"
        f"{'ms/req.':>9}{'late p99':>10}"
    )
    for name in dict.fromkeys(row.scenario for row in rows):
        yield _line([row for row in rows if row.scenario == name])


def _line(rows: list[GatewayRow]) -> str:
    def middle(field: str) -> float:
        return median(float(getattr(row, field)) for row in rows)

    return (
        f"{rows[0].scenario:<22}{middle('offered_per_s'):>10.1f}{middle('goodput_per_s'):>10.1f}"
        f"{middle('of_capacity'):>9.1%}{middle('completed'):>11.0f}"
        f"{middle('refused'):>9.0f}{middle('other'):>7.0f}"
        f"{middle('first_token_p50_s'):>10.3f}{middle('first_token_p99_s'):>8.3f}"
        f"{middle('refusal_p99_s'):>13.3f}{middle('rss_bytes') / 2**20:>9.0f}"
        f"{middle('cpu_share'):>6.0%}{middle('cpu_ms_per_request'):>9.2f}{middle('late_p99_s'):>10.3f}"
    )


if __name__ == "__main__":
    sys.exit(main())
