"""Time the control plane: from a request's arrival at the gateway to the `Load` at the worker.

    python -m experiments.control                     five rounds of ten seconds with each store
    python -m experiments.control --rounds 1 --seconds 3

100 requests/s over 100 models, each cold: an instance leaves as soon as it is idle, so that every
request needs a `Load`, which its journal entry has to precede durably. Gateway and leader are one
process, the workers another, with sockets between them; loads and engines are paced; SQLite commits
with `synchronous = FULL`. Beside it stands what of a cold start no phase explains: first token -
arrival - transfer - startup - the engine's first step; and, of the same round, what a bare durable
append and a bare echo of another process take. Writes the quantiles of every round, in ms, as
control.json into --out.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.control.floor import echo_seconds, sync_seconds
from experiments.control.workers import SEEN, SERVERS, Load
from experiments.simulation.environment import Stopwatch, environment
from sllmcore.build import PolicySettings
from sllmcore.errors import ClusterError
from sllmcore.residency import LruResidency
from sllmreal.cluster.attach import attached_gateway
from sllmreal.cluster.children import ChildCommand, kept_running
from sllmreal.cluster.desk import RequestDesk
from sllmreal.cluster.home import Home, opened_home
from sllmreal.cluster.lead import lead
from sllmreal.cluster.leader import LeaderSettings
from sllmreal.cluster.operator import ask
from sllmreal.gateway.backend import Submission
from sllmreal.protocol.messages import Deploy
from sllmreal.protocol.model import ModelSpec
from sllmreal.store import MemoryStore, Store
from sllmreal.store.clock import SystemClock
from sllmreal.store.sqlite import SqliteStore

STORES = ("memory", "sqlite")
NUM_MODELS = 100
REQUESTS_PER_S = 100.0
OUTPUT_TOKENS = 3
STEP_S = 0.002
FLOOR_TRIES = 200


@dataclass(frozen=True, slots=True)
class Asked:
    """A request; instants by the machine's monotonic clock."""

    model: str
    arrived_at_s: float
    answered_at_s: float


@dataclass(frozen=True, slots=True)
class Row:
    """One cold request."""

    store: str
    round: int
    load_issued_s: float  # after the arrival
    cold_start_s: float  # arrival to first token
    transfer_s: float
    startup_s: float
    unexplained_s: float


@dataclass(frozen=True, slots=True)
class Floor:
    """What a round's machine took for next to nothing."""

    store: str
    round: int
    sync_s: list[float]
    echo_s: list[float]


def main() -> int:
    options, stopwatch = _options(), Stopwatch()
    rows: list[Row] = []
    floors: list[Floor] = []
    for number in range(options.rounds):
        for store in options.stores:
            found, floor = asyncio.run(_round(store, number, options.seconds))
            rows += found
            floors.append(floor)
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    rounds = [
        {"store": floor.store, "round": floor.round, **_quantiles(_of_round(rows, floor), [floor])}
        for floor in floors
    ]
    result = {"environment": environment(stopwatch), "rounds": rounds}
    (out / "control.json").write_text(json.dumps(result, indent=1) + "\n")
    for store in options.stores:
        mine = [row for row in rows if row.store == store]
        print(_line(store, mine, [one for one in floors if one.store == store]))
    print(out)
    return 0 if rows else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stores", nargs="+", choices=STORES, default=list(STORES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0, help="of arrivals in each round")
    parser.add_argument("--out", default="outputs/control")
    return parser.parse_args()


async def _round(store: str, number: int, seconds: float) -> tuple[list[Row], Floor]:
    with tempfile.TemporaryDirectory() as folder:  # short: sockets lie in it
        every_s = 1 / REQUESTS_PER_S
        echo_s = await echo_seconds(FLOOR_TRIES, every_s)
        sync_s = sync_seconds(Path(folder), FLOOR_TRIES, every_s)
        home = opened_home(Path(folder) / "home")
        async with _cluster(store, home) as (desk, leading):
            rng = random.Random(number)  # noqa: S311 - arrivals, not secrets
            asking = asyncio.create_task(_all_asked(desk, rng, seconds))
            await asyncio.wait([asking, leading], return_when=asyncio.FIRST_COMPLETED)
            if leading.done():
                raise ClusterError("the leader has ended: the machine is too busy for its lease")
            asked = asking.result()
        loads = [Load(**one) for one in json.loads((home.directory / SEEN).read_text())]
    rows = [_row(store, number, one, loads) for one in asked]
    return [row for row in rows if row is not None], Floor(store, number, sync_s, echo_s)


async def _all_asked(desk: RequestDesk, rng: random.Random, seconds: float) -> list[Asked]:
    done: list[Asked] = []
    free = [f"m{one}" for one in range(NUM_MODELS)]
    asking: set[asyncio.Task[None]] = set()

    async def one(model: str, request_id: str) -> None:
        done.append(await _answered(desk, model, request_id))
        free.append(model)

    began_at_s = at_s = time.monotonic()
    while at_s < began_at_s + seconds:
        await asyncio.sleep(max(0.0, at_s - time.monotonic()))
        if free:
            asking.add(asyncio.create_task(one(free.pop(0), f"r{len(asking)}")))
        at_s += rng.expovariate(REQUESTS_PER_S)
    await asyncio.gather(*asking)
    return done


async def _answered(desk: RequestDesk, model: str, request_id: str) -> Asked:
    arrived_at_s = time.monotonic()
    call = desk.submit(Submission(request_id, model, "", (1, 2, 3), OUTPUT_TOKENS))
    await anext(call)
    answered_at_s = time.monotonic()
    async for _ in call:
        pass
    return Asked(model, arrived_at_s, answered_at_s)


def _row(store: str, number: int, asked: Asked, loads: list[Load]) -> Row | None:
    """None where an instance was still there: a model has one request at a time."""
    for load in loads:
        if load.model == asked.model and (
            asked.arrived_at_s <= load.issued_at_s <= asked.answered_at_s
        ):
            cold_start_s = asked.answered_at_s - asked.arrived_at_s
            return Row(
                store,
                number,
                load.issued_at_s - asked.arrived_at_s,
                cold_start_s,
                load.transfer_s,
                load.startup_s,
                cold_start_s - load.transfer_s - load.startup_s - STEP_S,
            )
    return None


@asynccontextmanager
async def _cluster(
    kind: str, home: Home
) -> AsyncIterator[tuple[RequestDesk, "asyncio.Task[None]"]]:
    """64 GPUs; loads take about 10 ms, idle instances leave at once. And the task that leads."""
    residency = LruResidency(keep_alive_s=0.0, caches_dram=False, caches_ssd=False)
    settings = LeaderSettings(PolicySettings(residency=residency))
    store: Store = (
        await SqliteStore.open(home.store) if kind == "sqlite" else MemoryStore(SystemClock())
    )
    leading = asyncio.create_task(lead(home, store, settings))
    workers = ChildCommand(
        "workers", "experiments.control.workers", ("--home", str(home.directory))
    )
    async with AsyncExitStack() as stack:
        stack.push_async_callback(store.close)
        stack.push_async_callback(_stopped, leading)
        gateway = await stack.enter_async_context(attached_gateway(home))
        await stack.enter_async_context(kept_running([workers], lambda line: None))
        for one in range(NUM_MODELS):
            await ask(home, Deploy(_model(f"m{one}")))
        while gateway.desk.num_workers < len(SERVERS):  # noqa: ASYNC110 - told by a message
            await asyncio.sleep(0.02)
        yield gateway.desk, leading


async def _stopped(leading: "asyncio.Task[None]") -> None:
    if leading.done():
        leading.result()
    leading.cancel()
    await asyncio.gather(leading, return_exceptions=True)


def _model(name: str) -> ModelSpec:
    settings = {"decode_step_s": STEP_S}
    return ModelSpec(name, f"/{name}", 10_000_000, 4096, 0.0, "timed", 1, 1, settings)


def _of_round(rows: list[Row], floor: Floor) -> list[Row]:
    return [row for row in rows if (row.store, row.round) == (floor.store, floor.round)]


def _quantiles(rows: list[Row], floors: list[Floor]) -> dict[str, Any]:
    """In ms, by what was timed; and how many requests."""
    times = {
        "arrival to Load": [row.load_issued_s for row in rows],
        "unexplained of a cold start": [row.unexplained_s for row in rows],
        "bare append": [one for floor in floors for one in floor.sync_s],
        "bare echo": [one for floor in floors for one in floor.echo_s],
    }
    return {"cold requests": len(rows)} | {
        what: {f"p{100 * share:g}": _at(values, share) for share in (0.5, 0.9, 0.99, 1.0)}
        for what, values in times.items()
    }


def _line(store: str, rows: list[Row], floors: list[Floor]) -> str:
    found = _quantiles(rows, floors)
    number = found.pop("cold requests")
    parts = (f"{what} p50 {of['p50']} p99 {of['p99']} ms" for what, of in found.items())
    return f"{store:8} {number} cold requests: {'; '.join(parts)}"


def _at(values: list[float], share: float) -> float:
    return round(1000 * sorted(values)[int(share * (len(values) - 1))], 3)


if __name__ == "__main__":
    sys.exit(main())
