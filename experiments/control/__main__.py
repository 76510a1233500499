"""Time the control plane: from a request's arrival at the gateway to the `Load` at the worker.

    python -m experiments.control                     five rounds of ten seconds with each store
    python -m experiments.control --rounds 1 --seconds 3

100 requests/s over 100 models, each cold: an instance leaves as soon as it is idle, so that every
request needs a `Load`, which its journal entry has to precede durably. Gateway, leader and workers
run in one process, loads and engines are paced; SQLite commits with `synchronous = FULL`. Beside it
stands what of a cold start no phase explains: first token - arrival - transfer - startup - the
engine's first step. Writes control.json into --out.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from experiments.simulation.environment import Stopwatch, environment
from sllmcore.build import PolicySettings
from sllmcore.events import Event, LoadFinished
from sllmcore.residency import LruResidency
from sllmcore.types import ServerSpec
from sllmreal.cluster.leader import LeaderSettings
from sllmreal.cluster.local import LocalCluster, Member, local_cluster
from sllmreal.gateway.backend import Submission
from sllmreal.migration.links import LocalNetwork
from sllmreal.protocol.messages import ReportedEvent
from sllmreal.protocol.model import ModelSpec
from sllmreal.store import JournalLog, MemoryStore, Store, campaign
from sllmreal.store.clock import SystemClock
from sllmreal.store.sqlite import SqliteStore
from sllmreal.worker.data_plane import DataPlane
from sllmreal.worker.paced import PacedStorage
from sllmreal.worker.runner import Launch, Runner, Send
from sllmreal.worker.thread_runner import thread_launch
from sllmreal.worker.worker import Worker

STORES = ("memory", "sqlite")
NUM_MODELS = 100
NUM_SERVERS = 4
GPUS_PER_SERVER = 16
REQUESTS_PER_S = 100.0
OUTPUT_TOKENS = 3
STEP_S = 0.002
LEASE_S = 10.0


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


class Observed:
    """Instants of one run, by the clock that everything here shares."""

    def __init__(self) -> None:
        self.arrived_at_s: dict[str, float] = {}  # by model: it has one request at a time
        self.issued_at_s: dict[str, float] = {}
        self.loads: dict[str, LoadFinished] = {}
        self._models: dict[str, str] = {}

    def launch(self, make: Launch) -> Launch:
        """Notes when a worker begins to carry a load out."""

        def noting(instance_id: str, model: ModelSpec, send: Send) -> Runner:
            self.issued_at_s[model.name] = time.perf_counter()
            self._models[instance_id] = model.name
            return make(instance_id, model, send)

        return noting

    def hear(self, _: float, event: Event, __: object) -> None:
        if isinstance(event, LoadFinished):
            self.loads[self._models[event.instance_id]] = event


def main() -> int:
    options, stopwatch = _options(), Stopwatch()
    rows: list[Row] = []
    for number in range(options.rounds):
        for store in options.stores:
            rows += asyncio.run(_round(store, number, options.seconds))
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    result = {"environment": environment(stopwatch), "rows": [asdict(row) for row in rows]}
    (out / "control.json").write_text(json.dumps(result, indent=1) + "\n")
    for store in options.stores:
        print(_line(store, [row for row in rows if row.store == store]))
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


async def _round(store: str, number: int, seconds: float) -> list[Row]:
    observed = Observed()
    rows: list[Row] = []
    async with _cluster(store, observed) as cluster:
        rng = random.Random(number)  # noqa: S311 - arrivals, not secrets
        free = [f"m{one}" for one in range(NUM_MODELS)]
        asking: set[asyncio.Task[None]] = set()

        async def ask(model: str, request_id: str) -> None:
            rows.append(await _asked(cluster, observed, model, request_id, (store, number)))
            free.append(model)

        began_at_s = at_s = time.perf_counter()
        while at_s < began_at_s + seconds:
            await asyncio.sleep(max(0.0, at_s - time.perf_counter()))
            if free:
                task = asyncio.create_task(ask(free.pop(0), f"r{len(asking)}-{at_s}"))
                asking.add(task)
            at_s += rng.expovariate(REQUESTS_PER_S)
        await asyncio.gather(*asking)
    return rows


async def _asked(
    cluster: LocalCluster,
    observed: Observed,
    model: str,
    request_id: str,
    where: tuple[str, int],
) -> Row:
    asked = Submission(request_id, model, "", (1, 2, 3), OUTPUT_TOKENS)
    arrived_at_s = time.perf_counter()
    call = cluster.desk.submit(asked)
    await anext(call)
    cold_start_s = time.perf_counter() - arrived_at_s
    async for _ in call:
        pass
    load = observed.loads[model]
    explained_s = load.transfer_s + load.startup_s + STEP_S
    return Row(
        *where,
        observed.issued_at_s[model] - arrived_at_s,
        cold_start_s,
        load.transfer_s,
        load.startup_s,
        cold_start_s - explained_s,
    )


@asynccontextmanager
async def _cluster(kind: str, observed: Observed) -> AsyncIterator[LocalCluster]:
    """64 GPUs; loads take about 10 ms, idle instances leave at once."""
    residency = LruResidency(keep_alive_s=0.0, caches_dram=False, caches_ssd=False)
    settings = LeaderSettings(PolicySettings(residency=residency))
    network = LocalNetwork()
    members = [_member(f"s{one}", network, observed) for one in range(NUM_SERVERS)]
    with tempfile.TemporaryDirectory() as folder:
        store: Store = (
            await SqliteStore.open(Path(folder) / "store.db")
            if kind == "sqlite"
            else MemoryStore(SystemClock())
        )
        leadership = await campaign(store, "leader", b"here", LEASE_S)
        log = await JournalLog.open(store, "journal/", leadership)
        async with local_cluster(settings, log, members) as cluster:
            cluster.leader.loop.sinks.append(observed.hear)
            for one in range(NUM_MODELS):
                cluster.leader.deploy(_model(f"m{one}"))
            yield cluster
        await leadership.resign()
        await store.close()


def _model(name: str) -> ModelSpec:
    settings = {"decode_step_s": STEP_S}
    return ModelSpec(name, f"/{name}", 10_000_000, 4096, 0.0, "timed", 1, 1, settings)


def _member(server_id: str, network: LocalNetwork, observed: Observed) -> Member:
    spec = ServerSpec(server_id, GPUS_PER_SERVER, 1 << 34, 0, 0, 1e9, 1e9, 1e10)

    def make(plane: DataPlane, report: Callable[[ReportedEvent], None]) -> Worker:
        launch = observed.launch(thread_launch(links=network.links))
        return Worker(spec, PacedStorage(spec), launch, plane, report)

    return Member(spec, make)


def _line(store: str, rows: list[Row]) -> str:
    issued = sorted(row.load_issued_s for row in rows)
    unexplained = sorted(row.unexplained_s for row in rows)
    return (
        f"{store:8} {len(rows)} cold requests: arrival to Load p50 {_at(issued, 0.5)} "
        f"p99 {_at(issued, 0.99)} ms; unexplained of a cold start p50 {_at(unexplained, 0.5)} "
        f"p99 {_at(unexplained, 0.99)} ms"
    )


def _at(values: list[float], share: float) -> str:
    return f"{1000 * values[int(share * (len(values) - 1))]:.2f}"


if __name__ == "__main__":
    sys.exit(main())
