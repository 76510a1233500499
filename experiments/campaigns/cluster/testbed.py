"""A cluster of real processes for campaigns, with a gateway in the campaign's own process.

The engines are timed: they have no weights, so the tokens of each request can be computed in
advance.
"""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from sllmreal.control.deployment import ModelDeployment
from sllmreal.control.home import Home
from sllmreal.control.leader_link import LeaderLink
from sllmreal.control.messages import DeployModel
from sllmreal.control.operator import ask
from sllmreal.engine.protocol import SequenceSpec
from sllmreal.engine.timed import TimedOptions, timed_engine
from sllmreal.gateway.backend import GenerationRequest
from sllmreal.processes.attach import attached_gateway
from sllmreal.processes.supervisor import ChildCommand, kept_running
from sllmreal.router.router import RequestRouter

MODULE_OF_KIND = {
    "leader": "sllmreal.processes.leader",
    "worker": "sllmreal.processes.worker",
    "engine": "sllmreal.worker.child",
}
CONTEXT_TOKENS = 4096
PACED_WORKER = ("--gpus", "2", "--paced")  # pretends to load weights
_RESTART_S = 0.1  # delay before a killed process is started again
_START_UP_S = 60.0


def timed_model(
    name: str, source: str | None = None, size_bytes: int = 10_000_000
) -> ModelDeployment:
    """Return a model with a decode step of 5 ms and tokens that can be computed in advance."""
    settings = {"decode_step_s": 0.005}
    path = source or f"/{name}"
    return ModelDeployment(
        name=name,
        source=path,
        size_bytes=size_bytes,
        context_tokens=CONTEXT_TOKENS,
        created_at_s=0.0,
        engine="timed",
        num_gpus=1,
        num_slots=4,
        settings=settings,
    )


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """The command-line arguments of each worker and of the leader, and the models.

    Attributes:
        compact_every: Log entries between two compactions.
    """

    workers: tuple[tuple[str, ...], ...] = (PACED_WORKER, PACED_WORKER)
    models: tuple[ModelDeployment, ...] = tuple(timed_model(name) for name in ("m0", "m1", "m2"))
    compact_every: int = 100
    leader: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClusterTestbed:
    """A running cluster: its home directory, and this process's router and link to the leader."""

    home: Home
    router: RequestRouter
    link: LeaderLink
    models: tuple[str, ...]


@asynccontextmanager
async def running_testbed(
    home: Home, store: str, options: ClusterOptions | None = None
) -> AsyncIterator[ClusterTestbed]:
    """Run a cluster until the context ends; a process that is killed is started again.

    With etcd a standby runs beside the leader. Raises TimeoutError if a worker does not join.
    """
    options = options or ClusterOptions()
    home_arguments = ("--home", str(home.directory))
    compaction = ("--compact-every", str(options.compact_every))
    leader_arguments = ("--store", store, *compaction, *options.leader)
    leaders = ["leader", "standby"] if store.startswith("etcd") else ["leader"]
    commands = [
        ChildCommand(
            name, MODULE_OF_KIND["leader"], (*home_arguments, *leader_arguments), _RESTART_S
        )
        for name in leaders
    ]
    for number, sizes in enumerate(options.workers):
        arguments = (*home_arguments, "--server", f"s{number}", *sizes)
        commands.append(
            ChildCommand(f"worker {number}", MODULE_OF_KIND["worker"], arguments, _RESTART_S)
        )
    async with kept_running(commands, lambda _: None), attached_gateway(home) as gateway:
        router = gateway.router
        for model in options.models:
            await ask(home, DeployModel(model), wait_s=_START_UP_S)
        async with asyncio.timeout(_START_UP_S):
            while router.num_workers < len(options.workers):  # noqa: ASYNC110 - set by a message
                await asyncio.sleep(0.05)
        names = tuple(model.name for model in options.models)
        yield ClusterTestbed(home, router, gateway.link, names)


def expected_tokens(request: GenerationRequest) -> tuple[int, ...]:
    """Return the tokens that an undisturbed engine generates for `request`."""
    engine = timed_engine(TimedOptions(request.model, CONTEXT_TOKENS, 1))
    engine.start(SequenceSpec(request.request_id, request.prompt, request.max_output_tokens))
    while engine.has_work:
        engine.step()
    return engine.output(request.request_id)


async def requests_left_open(testbed: ClusterTestbed, within_s: float) -> list[str]:
    """Return a line for each request that an engine host still holds after `within_s`."""
    calls = testbed.router.generations
    deadline_s = asyncio.get_running_loop().time() + within_s
    while calls and asyncio.get_running_loop().time() < deadline_s:  # noqa: ASYNC110 - acknowledged
        await asyncio.sleep(0.05)
    return [
        f"{request_id}: still held by instance {call.owner.instance_id} after {within_s:.0f} s"
        for request_id, call in calls.items()
    ]


def kill_random_process(kind: str, home: Home, rng: random.Random) -> bool:
    """Send SIGKILL to one process of that kind; return False if the cluster has none now."""
    pids = process_ids(kind, home)
    if pids:
        os.kill(rng.choice(pids), signal.SIGKILL)
    return bool(pids)


def process_ids(kind: str, home: Home) -> list[int]:
    """Return the process ids of a kind in this cluster, read from /proc.

    An engine is recognised as a child of one of the cluster's workers.
    """
    found = []
    workers = set(process_ids("worker", home)) if kind == "engine" else set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "cmdline").read_bytes().split(b"\0")
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue  # the process ended after the directory was listed
        if MODULE_OF_KIND[kind].encode() not in command:
            continue
        if parent in workers or str(home.directory).encode() in command:
            found.append(int(entry.name))
    return found
