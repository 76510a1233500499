"""Leaders, workers and engines killed under load.

    python -m experiments.campaigns.cluster.kills --kills 200

Processes as `sllm serve` runs them, engines that check every token, and a gateway in this process
that keeps asking. After every kill all requests must end with exactly the tokens of a run that
nobody disturbed: none lost, none twice, none refused.
"""

import argparse
import asyncio
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import (
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from dataclasses import dataclass, field
from pathlib import Path

from experiments.benchmarks.store.etcd_cluster import EtcdCluster
from sllmreal.control.deployment import ModelDeployment
from sllmreal.control.home import Home, opened_home
from sllmreal.control.leader_link import LeaderLink
from sllmreal.control.messages import DeployModel, GetStatus
from sllmreal.control.operator import ask
from sllmreal.engine.protocol import SequenceSpec
from sllmreal.engine.timed import TimedOptions, timed_engine
from sllmreal.gateway.backend import GenerationRequest
from sllmreal.processes.attach import attached_gateway
from sllmreal.processes.supervisor import ChildCommand, kept_running
from sllmreal.router.router import RequestRouter
from sllmreal.store.registry import parsed_store

MODULES = {
    "leader": "sllmreal.processes.leader",
    "worker": "sllmreal.processes.worker",
    "engine": "sllmreal.worker.child",
}
ANSWER_S = 60.0
CONTEXT_TOKENS = 4096
PACED = ("--gpus", "2", "--paced")


def timed_model(
    name: str, source: str | None = None, size_bytes: int = 10_000_000
) -> ModelDeployment:
    """A model of which every token can be foretold, 5 ms each."""
    settings = {"decode_step_s": 0.005}
    where = source or f"/{name}"
    return ModelDeployment(name, where, size_bytes, CONTEXT_TOKENS, 0.0, "timed", 1, 4, settings)


@dataclass(frozen=True, slots=True)
class Plan:
    """What runs: the arguments of each worker, the models, how often the log is compacted."""

    workers: tuple[tuple[str, ...], ...] = (PACED, PACED)
    models: tuple[ModelDeployment, ...] = tuple(timed_model(name) for name in ("m0", "m1", "m2"))
    compact_every: int = 100


@dataclass(frozen=True, slots=True)
class Takeover:
    """How long the gateway had no leader. `num_kills` of leaders and standbys fell into that time:
    the next one may itself have been killed before it led."""

    seconds: float
    num_kills: int


@dataclass(slots=True)
class Tally:
    """What was done, and what came of it."""

    kills: dict[str, int] = field(default_factory=dict)
    num_answered: int = 0
    num_tokens: int = 0
    wrong: list[str] = field(default_factory=list)
    takeovers: list[Takeover] = field(default_factory=list)


@dataclass(slots=True)
class World:
    """A cluster of processes, and this process's gateway to it."""

    home: Home
    router: RequestRouter
    link: LeaderLink
    models: tuple[str, ...]
    tally: Tally = field(default_factory=Tally)


@asynccontextmanager
async def world(home: Home, store: str, plan: Plan | None = None) -> AsyncIterator[World]:
    """Everything running and models deployed."""
    plan = plan or Plan()
    where = ("--home", str(home.directory))
    leaders = ["leader", "standby"] if parsed_store(store).kind.shared else ["leader"]
    compacting = ("--compact-every", str(plan.compact_every))
    commands = [
        ChildCommand(name, MODULES["leader"], (*where, "--store", store, *compacting), 0.1)
        for name in leaders
    ]
    for number, sizes in enumerate(plan.workers):
        arguments = (*where, "--server", f"s{number}", *sizes)
        commands.append(ChildCommand(f"worker {number}", MODULES["worker"], arguments, 0.1))
    async with kept_running(commands, lambda _: None), attached_gateway(home) as gateway:
        router = gateway.router
        for model in plan.models:
            await ask(home, DeployModel(model), wait_s=60)
        async with asyncio.timeout(60):
            while router.num_workers < len(plan.workers):  # noqa: ASYNC110 - told by a message
                await asyncio.sleep(0.05)
        yield World(home, router, gateway.link, tuple(model.name for model in plan.models))


def expected(asked: GenerationRequest) -> tuple[int, ...]:
    """What an engine that nobody disturbs generates."""
    engine = timed_engine(TimedOptions(asked.model, CONTEXT_TOKENS, 1))
    engine.start(SequenceSpec(asked.request_id, asked.prompt, asked.max_output_tokens))
    while engine.has_work:
        engine.step()
    return engine.output(asked.request_id)


async def keep_asking(on: World, rng: random.Random, name: str, stop: asyncio.Event) -> None:
    """One client, one request after another, each checked token by token."""
    number = 0
    while not stop.is_set():
        number += 1
        prompt = tuple(rng.randrange(1000) for _ in range(rng.randint(1, 50)))
        model = rng.choice(on.models)
        asked = GenerationRequest(f"{name}-{number}", model, "", prompt, rng.randint(1, 200))
        tokens: list[int] = []
        try:
            async with asyncio.timeout(ANSWER_S):
                async for generated in on.router.submit(asked):
                    tokens += generated.tokens
        except Exception as error:  # whatever it is, it is a finding
            on.tally.wrong.append(f"{asked.request_id}: {type(error).__name__}: {error}")
            continue
        on.tally.num_answered += 1
        on.tally.num_tokens += len(tokens)
        if tuple(tokens) != expected(asked):
            on.tally.wrong.append(f"{asked.request_id}: other tokens than undisturbed")


def kill_one(kind: str, home: Home, rng: random.Random) -> bool:
    """kill -9 of one process of that kind in this cluster; False if there is none just now."""
    pids = processes(kind, home)
    if pids:
        os.kill(rng.choice(pids), signal.SIGKILL)
    return bool(pids)


def processes(kind: str, home: Home) -> list[int]:
    """Pids of this cluster's processes of a kind. An engine is a child of one of its workers."""
    found = []
    workers = set() if kind != "engine" else set(processes("worker", home))
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "cmdline").read_bytes().split(b"\0")
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue  # it has ended meanwhile
        if MODULES[kind].encode() not in command:
            continue
        if parent in workers or str(home.directory).encode() in command:
            found.append(int(entry.name))
    return found


async def run(kills: int, seed: int, store: str, directory: Path, clients: int = 8) -> Tally:
    """Kill so often, with pauses in which the cluster may or may not recover in full."""
    rng = random.Random(seed)
    standby = parsed_store(store).kind.shared
    async with world(opened_home(directory), store) as on:
        stop = asyncio.Event()
        asking = [
            asyncio.create_task(keep_asking(on, random.Random(rng.random()), f"c{one}", stop))
            for one in range(clients)
        ]
        watching = asyncio.create_task(_watch_leaders(on))
        done = 0
        while done < kills:
            await asyncio.sleep(rng.uniform(0.2, 2.5))
            kind = rng.choice(("leader", "leader", "worker", "engine"))
            leaders = on.link.num_leaders
            if not kill_one(kind, on.home, rng):
                continue
            done += 1
            on.tally.kills[kind] = on.tally.kills.get(kind, 0) + 1
            if kind == "leader" and not standby:
                await _taken_over(on, leaders)
            _show(done, kills, on.tally)
        stop.set()
        await asyncio.gather(*asking)
        watching.cancel()
        assert await ask(on.home, GetStatus(), wait_s=30) is not None, "somebody leads"
        await _settled(on)
        return on.tally


async def _settled(on: World) -> None:
    """Wait until no engine holds anything of any request; what does not end is a finding."""
    patience = time.monotonic() + 30
    while on.router.calls and time.monotonic() < patience:  # noqa: ASYNC110 - engines acknowledge
        await asyncio.sleep(0.05)
    for request_id, call in on.router.calls.items():
        farewells = call.owner._farewells._open
        on.tally.wrong.append(f"{request_id}: {call.owner.instance_id} not let go, {farewells}")


async def _taken_over(on: World, leaders: int) -> None:
    async with asyncio.timeout(30):
        while on.link.num_leaders == leaders:  # noqa: ASYNC110 - told by the next leader
            await asyncio.sleep(0.01)


async def _watch_leaders(on: World) -> None:
    """Notes how long the gateway was without a leader, each time."""
    while True:
        while on.link.connected.is_set():  # noqa: ASYNC110 - there is no event for its end
            await asyncio.sleep(0.01)
        lost_at_s, kills = time.monotonic(), on.tally.kills.get("leader", 0)
        await on.link.connected.wait()
        num_kills = on.tally.kills.get("leader", 0) - kills
        on.tally.takeovers.append(Takeover(time.monotonic() - lost_at_s, num_kills))


def _show(done: int, kills: int, tally: Tally) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{done}/{kills} kills, {tally.num_answered} answered")


@contextmanager
def _etcd(folder: Path) -> Iterator[str]:
    with EtcdCluster(folder, 3) as cluster:
        yield "etcd:" + ",".join(cluster.addresses)


# The URL of a store while its context lasts.
_STORES: dict[str, Callable[[Path], AbstractContextManager[str]]] = {
    "sqlite": lambda _: nullcontext("sqlite"),
    "etcd": _etcd,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--store", choices=_STORES, default="sqlite")
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as directory,
        _STORES[arguments.store](Path(directory)) as store,
    ):
        home = Path(directory) / "home"
        tally = asyncio.run(run(arguments.kills, arguments.seed, store, home))
    print(f"kills {tally.kills}: {tally.num_answered} answered, {tally.num_tokens} tokens")
    alone = sorted(one.seconds for one in tally.takeovers if not one.num_kills)
    again = sorted(one.seconds for one in tally.takeovers if one.num_kills)
    for what, times in (("takeovers", alone), ("with another leader killed meanwhile", again)):
        if times:
            middle, last = times[len(times) // 2], times[-1]
            print(f"{len(times)} {what}: median {middle:.2f} s, longest {last:.2f} s")
    for line in tally.wrong[:20]:
        print("WRONG", line)
    print(f"{len(tally.wrong)} requests lost or wrong")
    return 1 if tally.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
