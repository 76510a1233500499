"""Time the control plane: from a request's arrival at the gateway to its load.

    python -m experiments.control                     five rounds of ten seconds with each store
    python -m experiments.control --rounds 1 --seconds 3

The workload has 100 requests/s over 100 models. An instance is stopped as soon as it is idle, so
every request needs a load (`LaunchInstance`), and the load's journal entry must be durable first.
Gateway, leader and workers are a process each, with sockets between them. Loads and engines are
emulated. SQLite commits with `synchronous = FULL`; with the store `memory` the log is a list,
without durability.

    Load issued        the leader has posted the load to its worker
    at the worker      the worker begins to carry the load out
    unexplained        first token - arrival - transfer - startup - the engine's first step
    leader's CPU       CPU time of the leader's process per cold request
    bare append, echo  a durable append, and an echo of another process, in the same round

Writes the quantiles of every round, in ms, as control.json into --out.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.benchmarks.control.floor import echo_seconds, sync_seconds
from experiments.benchmarks.control.leading import STORES
from experiments.benchmarks.control.trial import REQUESTS_PER_S, Trial, trial
from experiments.simulation.environment import Stopwatch, environment

FLOOR_TRIES = 200


@dataclass(frozen=True, slots=True)
class Round:
    """The results of a round, and the lower bounds of the machine in the same round."""

    store: str
    number: int
    trial: Trial
    sync_s: list[float]
    echo_s: list[float]


def main() -> int:
    """Run the rounds, print a line per store, and write control.json; return 0."""
    options, stopwatch = _options(), Stopwatch()
    rounds = [
        asyncio.run(_round(store, number, options.seconds))
        for number in range(options.rounds)
        for store in options.stores
    ]
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    found = [{"store": one.store, "round": one.number, **_quantiles([one])} for one in rounds]
    result = {"environment": environment(stopwatch), "rounds": found}
    (out / "control.json").write_text(json.dumps(result, indent=1) + "\n")
    for store in options.stores:
        print(_line(store, [one for one in rounds if one.store == store]))
    print(out)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stores", nargs="+", choices=STORES, default=list(STORES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a round")
    parser.add_argument("--out", default="outputs/control")
    return parser.parse_args()


async def _round(store: str, number: int, seconds: float) -> Round:
    every_s = 1 / REQUESTS_PER_S
    echo_s = await echo_seconds(FLOOR_TRIES, every_s)
    with tempfile.TemporaryDirectory() as folder:
        sync_s = sync_seconds(Path(folder), FLOOR_TRIES, every_s)
    return Round(
        store=store,
        number=number,
        trial=await trial(store, number, seconds),
        sync_s=sync_s,
        echo_s=echo_s,
    )


def _quantiles(rounds: list[Round]) -> dict[str, Any]:
    """Return quantiles in ms by quantity, the number of requests, and the leader's CPU time."""
    colds = [cold for one in rounds for cold in one.trial.colds]
    times = {
        "arrival to Load issued": [cold.issued_s for cold in colds],
        "arrival to Load at the worker": [cold.came_s for cold in colds],
        "unexplained of a cold start": [cold.unexplained_s for cold in colds],
        "bare append": [seconds for one in rounds for seconds in one.sync_s],
        "bare echo": [seconds for one in rounds for seconds in one.echo_s],
    }
    cpu_s = sum(one.trial.cpu_s for one in rounds) / len(rounds)
    return {"cold requests": len(colds), "leader's CPU": round(1000 * cpu_s, 3)} | {
        what: {f"p{100 * share:g}": _at(values, share) for share in (0.5, 0.9, 0.99, 1.0)}
        for what, values in times.items()
    }


def _line(store: str, rounds: list[Round]) -> str:
    found = _quantiles(rounds)
    number, cpu_ms = found.pop("cold requests"), found.pop("leader's CPU")
    parts = (f"{what} p50 {of['p50']} p99 {of['p99']}" for what, of in found.items())
    return f"{store:8} {number} cold requests: leader's CPU {cpu_ms}; {'; '.join(parts)} ms"


def _at(values: list[float], share: float) -> float:
    return round(1000 * sorted(values)[int(share * (len(values) - 1))], 3)


if __name__ == "__main__":
    sys.exit(main())
