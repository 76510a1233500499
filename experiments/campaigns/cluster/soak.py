"""Run a cluster under mixed load and kills for a long time, and check that no resource use grows.

    python -m experiments.campaigns.cluster.soak --minutes 60 --out results/soak

Runs the processes of `sllm serve`: a worker with real tiers and small weights, and two workers that
pretend to load 2 GB models in seconds. More models than GPUs are deployed, so that cold starts,
evictions and migrations go on all the time. Clients use the router directly and over HTTP, and
about every 20 s an engine, a worker or a leader is killed with SIGKILL. Every ten seconds the
memory, files, threads, store size and open requests of all processes are sampled.

Checks that no sampled series grows (limits: `soak_verdict`), that no request is lost and that no
token is wrong. Writes soak.json and soak.png into --out.

Duration: --minutes. Exit status: 1 if a series grows, a request was lost or a token is wrong.
"""

import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import httpx

from experiments.benchmarks.terminal import ProgressLine, command_parser
from experiments.campaigns.cluster.soak_load import SoakClient, SoakRequests
from experiments.campaigns.cluster.soak_picture import draw
from experiments.campaigns.cluster.soak_samples import SampleSeries, sample
from experiments.campaigns.cluster.soak_verdict import GrowthVerdict, verdicts
from experiments.campaigns.cluster.testbed import (
    PACED_WORKER,
    ClusterOptions,
    ClusterTestbed,
    kill_random_process,
    requests_left_open,
    running_testbed,
    timed_model,
)
from experiments.simulation.environment import Stopwatch, environment
from sllmcore.events import MigrationFinished
from sllmreal.control.deployment import ModelDeployment
from sllmreal.control.home import opened_home
from sllmreal.control.messages import ReportedEvent
from sllmreal.gateway.server import serve
from sllmreal.gateway.settings import GatewaySettings
from sllmreal.router.gateway_backend import ClusterBackend

_GB = ("--gpu-memory-gb", "0.05", "--dram-gb", "0.05", "--ssd-gb", "0.05")
TIERED_WORKER = ("--gpus", "2", *_GB, "--spares", "0")  # timed engines need no spare process
SMALL_MODELS = ("m0", "m1", "m2")
SMALL_MIB = 6
LARGE_MODELS = ("b0", "b1", "b2", "b3")
LARGE_BYTES = 2_000_000_000  # loads in two (pretended) seconds; the DRAM tier has room for two
KINDS = ("engine", "worker", "engine", "engine", "leader", "worker", "engine")


@dataclass(frozen=True, slots=True)
class SoakOptions:
    """Duration, load, kills and sampling of a soak.

    Attributes:
        tiers: One worker has real tiers (needs torch).
    """

    minutes: float = 60.0
    clients: int = 8
    sample_every_s: float = 10.0
    kill_every_s: float = 20.0
    seed: int = 0
    compact_every: int = 1_000
    tiers: bool = True


@dataclass(slots=True)
class SoakResults:
    """Requests, kills and samples of a soak.

    Attributes:
        num_unhealthy: Samples at which /health did not answer 200.
    """

    requests: SoakRequests = field(default_factory=SoakRequests)
    kills: Counter[str] = field(default_factory=Counter)
    series: dict[str, SampleSeries] = field(default_factory=dict)
    num_migrations: int = 0
    num_cold_starts: float = 0.0
    num_unhealthy: int = 0
    num_leaders: int = 0

    @property
    def verdicts(self) -> list[GrowthVerdict]:
        """The verdict on each series that is judged."""
        return verdicts(self.series)

    @property
    def failed(self) -> bool:
        """True if a request failed or a series grows."""
        return bool(self.requests.failures) or any(one.grows for one in self.verdicts)

    def count_event(self, event: ReportedEvent) -> None:
        """Count an event that the router reports to the leader."""
        self.num_migrations += isinstance(event, MigrationFinished)

    def add_sample(self, at_s: float, numbers: dict[str, float]) -> None:
        """Append one sample to the series."""
        for name, value in numbers.items():
            self.series.setdefault(name, SampleSeries()).add(at_s, value)


async def run(options: SoakOptions, directory: Path) -> SoakResults:
    """Run a soak and return its results.

    Sockets are created in `directory`: its path must be short (`sllmreal.control.home`).
    """
    rng, soak = random.Random(options.seed), SoakResults()
    stop = asyncio.Event()
    cluster = _cluster_options(options, directory)
    async with (
        running_testbed(opened_home(directory / "home"), "sqlite", cluster) as testbed,
        _http_client(testbed) as http,
    ):
        testbed.router.event_listeners.append(soak.count_event)
        clients = [
            SoakClient(
                testbed=testbed,
                http=http,
                results=soak.requests,
                rng=random.Random(rng.random()),
                name=f"c{number}",
            )
            for number in range(options.clients)
        ]
        tasks = [asyncio.create_task(client.run(stop)) for client in clients]
        tasks.append(
            asyncio.create_task(
                _kill(testbed=testbed, options=options, soak=soak, rng=rng, stop=stop)
            )
        )
        tasks.append(
            asyncio.create_task(
                _watch(testbed=testbed, http=http, options=options, soak=soak, stop=stop)
            )
        )
        await asyncio.sleep(60 * options.minutes)
        stop.set()
        await asyncio.gather(*tasks)
        soak.requests.failures += await requests_left_open(testbed, within_s=40)
        soak.num_cold_starts = _cold_starts((await http.get("/metrics")).text)
        soak.num_leaders = testbed.link.num_leaders
    return soak


def _cluster_options(options: SoakOptions, directory: Path) -> ClusterOptions:
    models = [timed_model(name, size_bytes=LARGE_BYTES) for name in LARGE_MODELS]
    if not options.tiers:
        return ClusterOptions(models=tuple(models), compact_every=options.compact_every)
    models += [_small_model(directory, name, n) for n, name in enumerate(SMALL_MODELS)]
    workers = (PACED_WORKER, PACED_WORKER, TIERED_WORKER)
    return ClusterOptions(workers, tuple(models), options.compact_every)


def _small_model(directory: Path, name: str, seed: int) -> ModelDeployment:
    """Write a checkpoint of SMALL_MIB of random weights and return its (timed) model."""
    import torch

    from sllmreal.checkpoint import read_layout, save_checkpoint
    from sllmreal.checkpoint.convert import WriteOptions

    generator = torch.Generator().manual_seed(seed)
    tensors = {
        f"layers.{layer}.weight": torch.randn((1 << 18,), generator=generator)
        for layer in range(SMALL_MIB)
    }
    config = directory / f"{name}.assets" / "config.json"
    config.parent.mkdir()
    config.write_text('{"model_type": "none"}')
    target = directory / name
    save_checkpoint(tensors, target, WriteOptions(chunk_bytes=1 << 20), [config])
    return timed_model(name, str(target), read_layout(target).size_bytes)


@asynccontextmanager
async def _http_client(testbed: ClusterTestbed) -> AsyncIterator[httpx.AsyncClient]:
    """Serve this process's gateway over HTTP and return a client of it."""
    backend = ClusterBackend(testbed.router, testbed.link)
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
    testbed: ClusterTestbed,
    options: SoakOptions,
    soak: SoakResults,
    rng: random.Random,
    stop: asyncio.Event,
) -> None:
    """Kill a process every `kill_every_s`, 30 % more or less, until `stop`."""
    number = 0
    while not await _stopped(stop, options.kill_every_s * rng.uniform(0.7, 1.3)):
        kind = KINDS[number % len(KINDS)]
        number += 1
        soak.kills[kind] += kill_random_process(kind, testbed.home, rng)


async def _watch(
    testbed: ClusterTestbed,
    http: httpx.AsyncClient,
    options: SoakOptions,
    soak: SoakResults,
    stop: asyncio.Event,
) -> None:
    """Sample the processes every `sample_every_s` until `stop`."""
    began_s = time.monotonic()
    with ProgressLine("minutes", options.minutes) as progress:
        while not await _stopped(stop, options.sample_every_s):
            at_s = time.monotonic() - began_s
            soak.add_sample(at_s, await sample(testbed))
            soak.num_unhealthy += (await http.get("/health")).status_code != 200
            requests = soak.requests
            note = f"{requests.answered.total()} answered, {len(requests.failures)} failures"
            progress.show(round(at_s / 60, 1), note)


async def _stopped(stop: asyncio.Event, within_s: float) -> bool:
    """Wait until `stop` is set, at most `within_s`; return whether it is."""
    try:
        async with asyncio.timeout(within_s):
            await stop.wait()
    except TimeoutError:
        return False
    return True


def _cold_starts(page: str) -> float:
    """Return the number of cold starts in a page of /metrics."""
    lines = [line for line in page.splitlines() if line.startswith("sllm:cold_start_seconds_count")]
    return sum(float(line.split()[-1]) for line in lines if 'phase="transfer"' in line)


def report(soak: SoakResults, options: SoakOptions, out: Path, stopwatch: Stopwatch) -> None:
    """Write soak.json and soak.png, and print a summary."""
    out.mkdir(parents=True, exist_ok=True)
    growing = {one.series for one in soak.verdicts if one.grows}
    result = {
        "environment": environment(stopwatch),
        "options": asdict(options),
        "answered": dict(soak.requests.answered),
        "wrong": soak.requests.failures,
        "kills": dict(soak.kills),
        "leaders": soak.num_leaders,
        "migrations": soak.num_migrations,
        "cold_starts": soak.num_cold_starts,
        "samples_unhealthy": soak.num_unhealthy,
        "verdicts": [asdict(one) | {"grows": one.grows} for one in soak.verdicts],
        "series": {name: asdict(one) for name, one in soak.series.items()},
    }
    (out / "soak.json").write_text(json.dumps(result, indent=1) + "\n")
    draw(soak.series, growing, out / "soak.png")
    print(f"{dict(soak.requests.answered)}, kills {dict(soak.kills)}")
    print(f"{soak.num_migrations} migrations, {soak.num_cold_starts:.0f} cold starts", end=", ")
    print(f"{soak.num_leaders} leaders, {soak.num_unhealthy} samples unhealthy")
    for one in soak.verdicts:
        sign = "GROWS" if one.grows else "ok"
        print(f"{sign:6}{one.series:24}{one.first:14,.0f} ->{one.last:14,.0f}", end="")
        print(f"  (limit {one.allowed:,.0f})")
    for line in soak.requests.failures[:20]:
        print("FAILED", line)
    print(out)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the campaign; return 1 if a series grows, a request was lost or a token is wrong."""
    parser = command_parser("experiments.campaigns.cluster.soak", __doc__)
    defaults, add = SoakOptions(), parser.add_argument
    add("--minutes", type=float, default=defaults.minutes, help="duration")
    add("--clients", type=int, default=defaults.clients, help="clients that send without a pause")
    add("--kill-every-s", type=float, default=defaults.kill_every_s, help="mean time between kills")
    add("--seed", type=int, default=defaults.seed, help="random seed of kills and requests")
    add("--out", type=Path, default=Path("results/soak"), help="folder for the results")
    given = parser.parse_args(argv)
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
