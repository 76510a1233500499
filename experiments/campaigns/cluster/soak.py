"""A cluster under load for a long time, in which nothing may grow.

    python -m experiments.campaigns.cluster.soak

    python -m experiments.campaigns.cluster.soak --minutes 60 --out results/soak

Processes as `sllm serve` runs them: a worker with real tiers and small weights, and two that
pretend to load large ones for seconds. There are more models than GPUs, so that there are cold
starts, evictions and migrations all the time; a gateway in this process, asked at its desk and over
HTTP; and a kill -9 of an engine, a worker or a leader every now and then. Every ten seconds all
that the processes take is noted. Writes soak.json and soak.png into --out. Ends with 1 if a number
grows (`soak_verdict`), a request is lost or a token is wrong.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import httpx

from experiments.campaigns.cluster.kills import PACED, Plan, World, kill_one, timed_model, world
from experiments.campaigns.cluster.soak_load import Client, Done
from experiments.campaigns.cluster.soak_picture import draw
from experiments.campaigns.cluster.soak_samples import Series, sample
from experiments.campaigns.cluster.soak_verdict import Verdict, verdicts
from experiments.simulation.environment import Stopwatch, environment
from sllmcore.events import MigrationFinished
from sllmreal.control.home import opened_home
from sllmreal.control.messages import ReportedEvent
from sllmreal.gateway.server import serve
from sllmreal.gateway.settings import GatewaySettings
from sllmreal.router.gateway_backend import ClusterBackend

_GB = ("--gpu-memory-gb", "0.05", "--dram-gb", "0.05", "--ssd-gb", "0.05")
TIERED = ("--gpus", "2", *_GB, "--spares", "0")  # spares are for engines that import torch
SMALL = ("m0", "m1", "m2")
LARGE = ("b0", "b1", "b2", "b3")
LARGE_BYTES = 2_000_000_000  # two seconds, as the workers pretend; a DRAM tier has room for two
KINDS = ("engine", "worker", "engine", "engine", "leader", "worker", "engine")


@dataclass(frozen=True, slots=True)
class SoakOptions:
    """How long and how rough."""

    minutes: float = 60.0
    clients: int = 8
    sample_every_s: float = 10.0
    kill_every_s: float = 20.0
    seed: int = 0
    compact_every: int = 1_000
    tiers: bool = True  # one worker has real ones


@dataclass(slots=True)
class Soak:
    """What was seen."""

    done: Done = field(default_factory=Done)
    kills: Counter[str] = field(default_factory=Counter)
    series: dict[str, Series] = field(default_factory=dict)
    num_migrations: int = 0
    num_cold_starts: float = 0.0
    num_sick: int = 0  # samples at which /health did not say ok
    num_leaders: int = 0

    @property
    def verdicts(self) -> list[Verdict]:
        return verdicts(self.series)

    @property
    def failed(self) -> bool:
        return bool(self.done.wrong) or any(one.grows for one in self.verdicts)

    def hear(self, event: ReportedEvent) -> None:
        """An event of the desk."""
        self.num_migrations += isinstance(event, MigrationFinished)

    def note(self, at_s: float, numbers: dict[str, float]) -> None:
        """A sample."""
        for name, value in numbers.items():
            self.series.setdefault(name, Series()).add(at_s, value)


async def run(options: SoakOptions, directory: Path) -> Soak:
    """A whole soak. Sockets lie in `directory`: it has a short name."""
    rng, soak = random.Random(options.seed), Soak()
    stop = asyncio.Event()
    async with (
        world(opened_home(directory / "home"), "sqlite", _plan(options, directory)) as on,
        _http(on) as http,
    ):
        on.router.event_listeners.append(soak.hear)
        clients = [
            Client(on, http, soak.done, random.Random(rng.random()), f"c{number}")
            for number in range(options.clients)
        ]
        tasks = [asyncio.create_task(client.keep_asking(stop)) for client in clients]
        tasks.append(asyncio.create_task(_kill(on, options, soak, rng, stop)))
        tasks.append(asyncio.create_task(_watch(on, http, options, soak, stop)))
        await asyncio.sleep(60 * options.minutes)
        stop.set()
        await asyncio.gather(*tasks)
        await _settled(on, soak)
        soak.num_cold_starts = _cold_starts((await http.get("/metrics")).text)
        soak.num_leaders = on.link.num_leaders
    return soak


def _plan(options: SoakOptions, directory: Path) -> Plan:
    models = [timed_model(name, size_bytes=LARGE_BYTES) for name in LARGE]
    if not options.tiers:
        return Plan(models=tuple(models), compact_every=options.compact_every)
    from tests.worker.models import native_model  # imports torch

    for number, name in enumerate(SMALL):
        weights = native_model(directory, name, seed=number)
        models.append(timed_model(name, weights.source, weights.size_bytes))
    return Plan((PACED, PACED, TIERED), tuple(models), options.compact_every)


@asynccontextmanager
async def _http(on: World) -> AsyncIterator[httpx.AsyncClient]:
    """A client of this process's gateway."""
    backend = ClusterBackend(on.router, on.link)
    stop = asyncio.Event()
    address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(
        serve(
            backend,
            GatewaySettings(port=0),
            stop=stop,
            ready=lambda host, port: address.set_result(f"http://{host}:{port}"),
        )
    )
    try:
        async with httpx.AsyncClient(base_url=await address, timeout=120.0) as client:
            yield client
    finally:
        stop.set()
        await serving


async def _kill(
    on: World, options: SoakOptions, soak: Soak, rng: random.Random, stop: asyncio.Event
) -> None:
    number = 0
    while not await _waited(stop, options.kill_every_s * rng.uniform(0.7, 1.3)):
        kind = KINDS[number % len(KINDS)]
        number += 1
        soak.kills[kind] += kill_one(kind, on.home, rng)


async def _watch(
    on: World, http: httpx.AsyncClient, options: SoakOptions, soak: Soak, stop: asyncio.Event
) -> None:
    began_s = time.monotonic()
    while not await _waited(stop, options.sample_every_s):
        at_s = time.monotonic() - began_s
        soak.note(at_s, await sample(on))
        soak.num_sick += (await http.get("/health")).status_code != 200
        if sys.stderr.isatty():
            line = f"{at_s / 60:.1f} min, {soak.done.answered.total()} answered"
            sys.stderr.write(f"\r{line}, {len(soak.done.wrong)} wrong")


async def _waited(stop: asyncio.Event, seconds: float) -> bool:
    """Wait so long; at once True when it is over."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return False
    return True


async def _settled(on: World, soak: Soak) -> None:
    patience_s = time.monotonic() + 40.0
    while on.router.generations and time.monotonic() < patience_s:  # noqa: ASYNC110 - engines acknowledge
        await asyncio.sleep(0.05)
    soak.done.wrong += [f"{request_id}: never let go" for request_id in on.router.generations]


def _cold_starts(page: str) -> float:
    lines = [line for line in page.splitlines() if line.startswith("sllm:cold_start_seconds_count")]
    return sum(float(line.split()[-1]) for line in lines if 'phase="transfer"' in line)


def report(soak: Soak, options: SoakOptions, out: Path, stopwatch: Stopwatch) -> None:
    """Write soak.json and soak.png, and say what they hold."""
    out.mkdir(parents=True, exist_ok=True)
    growing = {one.series for one in soak.verdicts if one.grows}
    result = {
        "environment": environment(stopwatch),
        "options": asdict(options),
        "answered": dict(soak.done.answered),
        "wrong": soak.done.wrong,
        "kills": dict(soak.kills),
        "leaders": soak.num_leaders,
        "migrations": soak.num_migrations,
        "cold_starts": soak.num_cold_starts,
        "samples_unhealthy": soak.num_sick,
        "verdicts": [asdict(one) | {"grows": one.grows} for one in soak.verdicts],
        "series": {name: asdict(one) for name, one in soak.series.items()},
    }
    (out / "soak.json").write_text(json.dumps(result, indent=1) + "\n")
    draw(soak.series, growing, out / "soak.png")
    print(f"{dict(soak.done.answered)}, kills {dict(soak.kills)}")
    print(f"{soak.num_migrations} migrations, {soak.num_cold_starts:.0f} cold starts", end=", ")
    print(f"{soak.num_leaders} leaders, {soak.num_sick} samples unhealthy")
    for one in soak.verdicts:
        sign = "GROWS" if one.grows else "ok"
        print(f"{sign:6}{one.series:24}{one.first:14,.0f} ->{one.last:14,.0f}", end="")
        print(f"  (up to {one.allowed:,.0f})")
    for line in soak.done.wrong[:20]:
        print("WRONG", line)
    print(out)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    defaults = SoakOptions()
    parser.add_argument("--minutes", type=float, default=defaults.minutes)
    parser.add_argument("--clients", type=int, default=defaults.clients)
    parser.add_argument("--kill-every-s", type=float, default=defaults.kill_every_s)
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--out", type=Path, default=Path("results/soak"))
    given = parser.parse_args()
    options = SoakOptions(
        given.minutes, given.clients, kill_every_s=given.kill_every_s, seed=given.seed
    )
    stopwatch = Stopwatch()
    with tempfile.TemporaryDirectory() as directory:
        soak = asyncio.run(run(options, Path(directory)))
    report(soak, options, given.out, stopwatch)
    return 1 if soak.failed else 0


if __name__ == "__main__":
    sys.exit(main())
