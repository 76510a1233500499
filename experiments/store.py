"""Time the stores.

    python -m experiments.store                            medians over five rounds, about a minute
    python -m experiments.store --rounds 1 --calls 50      a quick look
    python -m experiments.store --stores memory sqlite     without etcd

The stores take turns in each round, on the same disk; beside them stands a bare append with
fdatasync, the least that a durable write can take. `etcd gateway` is the same node as `etcd` asked
by JSON over HTTP. Writes store.json into --out (rows of store, call, round, num_calls, p50_s,
p99_s) and prints that folder as its last line.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any

from experiments.benchmarks.store.etcd_cluster import ETCD, EtcdCluster
from experiments.benchmarks.store.gateway import gateway_measured
from experiments.benchmarks.store.measures import Times, fsyncs, measured
from experiments.simulation.environment import Stopwatch, environment
from sllmreal.store import MemoryStore, Store
from sllmreal.store.etcd import EtcdStore, Patience
from sllmreal.store.sqlite import SqliteStore

STORES = ("memory", "sqlite", "etcd", "etcd gateway", "etcd 3 nodes")
PATIENCE = Patience(attempt_s=5.0, total_s=30.0)  # a busy disk is slow, not away


def main() -> int:
    """Measure what the command line asks for."""
    options, stopwatch = _options(), Stopwatch()
    with tempfile.TemporaryDirectory(dir=options.disk) as folder:
        rows = asyncio.run(_rounds(options, Path(folder)))
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    result = {"environment": environment(stopwatch), "rows": rows}
    (out / "store.json").write_text(json.dumps(result, indent=2) + "\n")
    for line in _table(rows):
        print(line)
    print(out)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.store",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--stores", nargs="+", choices=STORES, default=list(STORES))
    parser.add_argument("--calls", type=int, default=200, help="of each kind (default 200)")
    parser.add_argument("--rounds", type=int, default=5, help="medians over so many (default 5)")
    parser.add_argument("--disk", default=None, help="folder of the stores (default: temporary)")
    parser.add_argument("--out", default="outputs/store", help="folder (default outputs/store)")
    options = parser.parse_args()
    if options.calls < 20 or options.rounds < 1:
        parser.error("--calls must be at least 20 and --rounds at least 1")
    if ETCD is None and any(name.startswith("etcd") for name in options.stores):
        parser.error("etcd is not installed (Debian: etcd-server): choose --stores memory sqlite")
    return options


async def _rounds(options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    async with AsyncExitStack() as stack:
        one = three = None
        if {"etcd", "etcd gateway"} & set(options.stores):
            one = stack.enter_context(_cluster(folder / "one", 1))
        if "etcd 3 nodes" in options.stores:
            three = stack.enter_context(_cluster(folder / "three", 3))
        for number in range(1, options.rounds + 1):
            rows += _rows("fsync", {"append": fsyncs(folder, options.calls)}, number)
            for name in options.stores:
                cluster = three if name == "etcd 3 nodes" else one
                prefix = f"round{number}"
                if name == "etcd gateway":
                    assert cluster is not None
                    times = await gateway_measured(cluster.addresses[0], prefix, options.calls)
                else:
                    store = await _opened(name, folder / f"{prefix}.db", cluster)
                    times = await measured(store, prefix, options.calls)
                    await store.close()
                rows += _rows(name, times, number)
    return rows


def _cluster(folder: Path, num_nodes: int) -> EtcdCluster:
    folder.mkdir()
    return EtcdCluster(folder, num_nodes)


async def _opened(name: str, path: Path, cluster: EtcdCluster | None) -> Store:
    if name == "memory":
        return MemoryStore()
    if name == "sqlite":
        return await SqliteStore.open(path)
    assert cluster is not None
    return await EtcdStore.open(cluster.addresses, patience=PATIENCE)


def _rows(store: str, times: Times, number: int) -> Iterator[dict[str, Any]]:
    for call, times_s in times.items():
        ordered = sorted(times_s)
        yield {
            "store": store,
            "call": call,
            "round": number,
            "num_calls": len(ordered),
            "p50_s": median(ordered),
            "p99_s": ordered[ceil(0.99 * len(ordered)) - 1],
        }


def _table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Medians over the rounds, in ms, with the range of the p50."""
    yield f"{'store':<13} {'call':<20} {'p50 ms':>8} {'p99 ms':>8}   p50 over the rounds"
    for store, call in dict.fromkeys((row["store"], row["call"]) for row in rows):
        same = [row for row in rows if (row["store"], row["call"]) == (store, call)]
        p50s_ms = sorted(1e3 * row["p50_s"] for row in same)
        p99_ms = 1e3 * median(row["p99_s"] for row in same)
        spread = f"{p50s_ms[0]:.2f} to {p50s_ms[-1]:.2f}"
        yield f"{store:<13} {call:<20} {median(p50s_ms):>8.2f} {p99_ms:>8.2f}   {spread}"


if __name__ == "__main__":
    sys.exit(main())
