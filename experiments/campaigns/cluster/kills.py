"""Kill leaders, workers and engines of a running cluster under load, and check every token.

    python -m experiments.campaigns.cluster.kills --kills 200
    python -m experiments.campaigns.cluster.kills --kills 200 --engine vllm

Runs the processes of `sllm serve` with timed engines, and eight clients that send one request after
another through a gateway in this process. Kills a random process with SIGKILL every 0.2 to 2.5 s.
With --engine vllm the engines are vLLM's, with greedy float32 weights. Five kills of six hit them
or their spares, and three requests are answered between two kills. The policy migrates requests
whenever it can.

Checks that every request ends with exactly the tokens of an undisturbed run: none lost, none
repeated, none rejected. Prints how long the gateway had no leader after each kill of one.

Duration: about 8 minutes for 200 kills, an hour with vLLM on two cores. Exit status: 1 if a request
was lost or a token is wrong.
"""

import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path

from experiments.benchmarks.store.etcd_cluster import ETCD, EtcdCluster
from experiments.benchmarks.terminal import ProgressLine, command_parser
from experiments.campaigns.cluster.kill_plans import KillPlan, timed_plan, vllm_plan
from experiments.campaigns.cluster.testbed import (
    ClusterTestbed,
    kill_random_process,
    requests_left_open,
    running_testbed,
)
from sllmcore.events import MigrationFinished
from sllmreal.control.home import opened_home
from sllmreal.control.messages import GetStatus, ReportedEvent
from sllmreal.control.operator import ask
from sllmreal.store.registry import parsed_store

_PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Takeover:
    """A time without a leader, as seen by the gateway.

    Attributes:
        num_kills: Kills of leaders and standbys within that time: the successor itself may have
            been killed before it led.
    """

    seconds: float
    num_kills: int


@dataclass(slots=True)
class KillResults:
    """Kills by kind of process, answered requests, and failures in words."""

    kills: dict[str, int] = field(default_factory=dict)
    num_answered: int = 0
    num_tokens: int = 0
    failures: list[str] = field(default_factory=list)
    takeovers: list[Takeover] = field(default_factory=list)
    num_migrations: int = 0

    def count_event(self, event: ReportedEvent) -> None:
        """Count an event that the router reports to the leader."""
        self.num_migrations += isinstance(event, MigrationFinished)


async def run(
    kills: int,
    seed: int,
    store: str,
    directory: Path,
    clients: int = 8,
    plan: KillPlan | None = None,
) -> KillResults:
    """Kill `kills` processes of a cluster under load and return what was found.

    The cluster need not have recovered from one kill when the next one follows.
    """
    rng, results, plan = random.Random(seed), KillResults(), plan or timed_plan()
    async with running_testbed(opened_home(directory), store, plan.cluster) as testbed:
        await plan.requests.prepare(testbed)
        testbed.router.event_listeners.append(results.count_event)
        stop = asyncio.Event()
        tasks = [
            asyncio.create_task(
                _run_client(
                    testbed=testbed,
                    plan=plan,
                    results=results,
                    rng=random.Random(rng.random()),
                    name=f"c{number}",
                    stop=stop,
                )
            )
            for number in range(clients)
        ]
        watch = asyncio.create_task(_watch_leaders(testbed, results))
        standby = parsed_store(store).kind.shared
        await _kill_processes(testbed, plan, results, kills, rng, standby=standby)
        stop.set()
        await asyncio.gather(*tasks)
        watch.cancel()
        if await ask(testbed.home, GetStatus(), wait_s=30) is None:
            results.failures.append("no leader answers after the last kill")
        results.failures += await requests_left_open(testbed, within_s=30)
    return results


async def _kill_processes(
    testbed: ClusterTestbed,
    plan: KillPlan,
    results: KillResults,
    kills: int,
    rng: random.Random,
    *,
    standby: bool,
) -> None:
    with ProgressLine("kills", kills) as progress:
        done = 0
        while done < kills:
            answered = results.num_answered + plan.answers
            await asyncio.sleep(rng.uniform(*plan.pause_s))
            await _until_answered(results, answered)
            kind = rng.choice(plan.kinds)
            leaders = testbed.link.num_leaders
            if not kill_random_process(kind, testbed.home, rng):
                continue
            done += 1
            results.kills[kind] = results.kills.get(kind, 0) + 1
            if kind == "leader" and not standby:
                await _next_leader(testbed, leaders)
            note = f"{results.num_answered} answered, {len(results.failures)} failures"
            progress.show(done, note)


async def _until_answered(results: KillResults, num_answered: int) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(_PATIENCE_S):
            while results.num_answered < num_answered:  # noqa: ASYNC110 - set by clients
                await asyncio.sleep(0.05)


async def _run_client(
    testbed: ClusterTestbed,
    plan: KillPlan,
    results: KillResults,
    rng: random.Random,
    name: str,
    stop: asyncio.Event,
) -> None:
    """Send one request after another until `stop`, and compare its tokens with the expected."""
    number = 0
    while not stop.is_set():
        number += 1
        request = plan.requests.drawn(rng, f"{name}-{number}", rng.choice(testbed.models))
        tokens: list[int] = []
        try:
            async with asyncio.timeout(plan.answer_s):
                async for generated in testbed.router.submit(request):
                    tokens += generated.tokens
        except Exception as error:  # any error is a failure of the cluster
            results.failures.append(f"{request.request_id}: {type(error).__name__}: {error}")
            continue
        results.num_answered += 1
        results.num_tokens += len(tokens)
        if tuple(tokens) != plan.requests.expected(request):
            results.failures.append(f"{request.request_id}: tokens differ from an undisturbed run")


async def _next_leader(testbed: ClusterTestbed, leaders: int) -> None:
    async with asyncio.timeout(30):
        while testbed.link.num_leaders == leaders:  # noqa: ASYNC110 - set by a message
            await asyncio.sleep(0.01)


async def _watch_leaders(testbed: ClusterTestbed, results: KillResults) -> None:
    """Record each time during which the gateway has no leader."""
    while True:
        while testbed.link.connected.is_set():  # noqa: ASYNC110 - there is no event for its end
            await asyncio.sleep(0.01)
        lost_at_s, kills = time.monotonic(), results.kills.get("leader", 0)
        await testbed.link.connected.wait()
        num_kills = results.kills.get("leader", 0) - kills
        results.takeovers.append(Takeover(time.monotonic() - lost_at_s, num_kills))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the campaign; return 1 if a request was lost or a token is wrong."""
    parser = command_parser("experiments.campaigns.cluster.kills", __doc__)
    parser.add_argument("--kills", type=int, default=200, help="processes to kill")
    parser.add_argument("--seed", type=int, default=0, help="random seed of kills and requests")
    parser.add_argument(
        "--store",
        choices=("sqlite", "etcd"),
        default="sqlite",
        help="store of the leader; etcd starts three nodes and adds a standby leader",
    )
    parser.add_argument(
        "--engine", choices=("timed", "vllm"), default="timed", help="engine of the models"
    )
    parser.add_argument(
        "--model", type=Path, help="directory of the model for vLLM (default: small random ones)"
    )
    arguments = parser.parse_args(argv)
    if arguments.store == "etcd" and ETCD is None:
        parser.error("--store etcd needs etcd, which is not on PATH: apt-get install etcd-server")
    with tempfile.TemporaryDirectory() as directory:
        etcd = EtcdCluster(Path(directory), 3) if arguments.store == "etcd" else nullcontext()
        with etcd as nodes:
            store = "sqlite" if nodes is None else "etcd:" + ",".join(nodes.addresses)
            home = Path(directory) / "home"
            plan, clients = timed_plan(), 8
            if arguments.engine == "vllm":  # five clients leave a GPU free to migrate to
                plan, clients = vllm_plan(Path(directory), arguments.model), 5
            results = asyncio.run(run(arguments.kills, arguments.seed, store, home, clients, plan))
    _report(results)
    return 1 if results.failures else 0


def _report(results: KillResults) -> None:
    answered = f"{results.num_answered} answered, {results.num_tokens} tokens"
    print(f"kills {results.kills}, {results.num_migrations} migrations: {answered}")
    plain = sorted(one.seconds for one in results.takeovers if not one.num_kills)
    repeated = sorted(one.seconds for one in results.takeovers if one.num_kills)
    for label, times in (("takeovers", plain), ("takeovers with a second kill", repeated)):
        if times:
            middle, longest = times[len(times) // 2], times[-1]
            print(f"{len(times)} {label}: median {middle:.2f} s, longest {longest:.2f} s")
    for line in results.failures[:20]:
        print("FAILED", line)
    print(f"{len(results.failures)} requests lost or wrong")


if __name__ == "__main__":
    sys.exit(main())
