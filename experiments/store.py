"""Time the stores.

    python -m experiments.store                            medians over five rounds, about a minute
    python -m experiments.store --rounds 1 --calls 50      a quick look
    python -m experiments.store --stores memory sqlite     without etcd

The stores take turns in each round, on the same disk. The row `fsync` is a bare append with
fdatasync, the least time of a durable write. `etcd gateway` is the same node as `etcd`, called by
JSON over HTTP. Writes store.json into --out (rows of store, call, round, num_calls, p50_s, p99_s)
and prints that folder as its last line.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
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

PATIENCE = Patience(attempt_s=5.0, total_s=30.0)  # a busy disk is slow, not unavailable


@dataclass(frozen=True, slots=True)
class StoreBench:
    """A row of the table.

    Args:
        measure: Times the calls, given the address of each etcd node, a file, a prefix and a number
            of calls.
        num_nodes: Size of the etcd cluster that the bench needs; 0: none.
    """

    measure: Callable[[list[str], Path, str, int], Awaitable[Times]]
    num_nodes: int = 0


async def _measure_memory(nodes: list[str], file: Path, prefix: str, num_calls: int) -> Times:
    return await _measured_and_closed(MemoryStore(), prefix, num_calls)


async def _measure_sqlite(nodes: list[str], file: Path, prefix: str, num_calls: int) -> Times:
    return await _measured_and_closed(await SqliteStore.open(file), prefix, num_calls)


async def _measure_etcd(nodes: list[str], file: Path, prefix: str, num_calls: int) -> Times:
    store = await EtcdStore.open(nodes, patience=PATIENCE)
    return await _measured_and_closed(store, prefix, num_calls)


async def _measure_gateway(nodes: list[str], file: Path, prefix: str, num_calls: int) -> Times:
    return await gateway_measured(nodes[0], prefix, num_calls)


async def _measured_and_closed(store: Store, prefix: str, num_calls: int) -> Times:
    times = await measured(store, prefix, num_calls)
    await store.close()
    return times


BENCHES = {
    "memory": StoreBench(_measure_memory),
    "sqlite": StoreBench(_measure_sqlite),
    "etcd": StoreBench(_measure_etcd, num_nodes=1),
    "etcd gateway": StoreBench(_measure_gateway, num_nodes=1),
    "etcd 3 nodes": StoreBench(_measure_etcd, num_nodes=3),
}


def main() -> int:
    """Run the benchmark; return 0."""
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
    parser.add_argument("--stores", nargs="+", choices=BENCHES, default=list(BENCHES))
    parser.add_argument("--calls", type=int, default=200, help="of each kind (default 200)")
    parser.add_argument("--rounds", type=int, default=5, help="medians over so many (default 5)")
    parser.add_argument("--disk", default=None, help="folder of the stores (default: temporary)")
    parser.add_argument("--out", default="outputs/store", help="folder (default outputs/store)")
    options = parser.parse_args()
    if options.calls < 20 or options.rounds < 1:
        parser.error("--calls must be at least 20 and --rounds at least 1")
    if ETCD is None and any(BENCHES[name].num_nodes for name in options.stores):
        parser.error("etcd is not installed (Debian: etcd-server): choose --stores memory sqlite")
    return options


async def _rounds(options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    benches = {name: BENCHES[name] for name in options.stores}
    sizes = sorted({bench.num_nodes for bench in benches.values()} - {0})
    async with AsyncExitStack() as stack:
        nodes: dict[int, list[str]] = {0: []}
        for size in sizes:
            nodes[size] = stack.enter_context(_cluster(folder / f"{size}-nodes", size)).addresses
        for number in range(1, options.rounds + 1):
            rows += _rows("fsync", {"append": fsyncs(folder, options.calls)}, number)
            prefix = f"round{number}"
            for name, bench in benches.items():
                addresses = nodes[bench.num_nodes]
                file = folder / f"{prefix}.db"
                times = await bench.measure(addresses, file, prefix, options.calls)
                rows += _rows(name, times, number)
    return rows


def _cluster(folder: Path, num_nodes: int) -> EtcdCluster:
    folder.mkdir()
    return EtcdCluster(folder, num_nodes)


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
    """Yield medians over the rounds, in ms, with the range of the p50."""
    yield f"{'store':<13} {'call':<20} {'p50 ms':>8} {'p99 ms':>8}   p50 over the rounds"
    for store, call in dict.fromkeys((row["store"], row["call"]) for row in rows):
        same = [row for row in rows if (row["store"], row["call"]) == (store, call)]
        p50s_ms = sorted(1e3 * row["p50_s"] for row in same)
        p99_ms = 1e3 * median(row["p99_s"] for row in same)
        spread = f"{p50s_ms[0]:.2f} to {p50s_ms[-1]:.2f}"
        yield f"{store:<13} {call:<20} {median(p50s_ms):>8.2f} {p99_ms:>8.2f}   {spread}"


if __name__ == "__main__":
    sys.exit(main())
