"""A round: a cluster of processes, and a gateway in this process that requests cold models."""

import asyncio
import json
import random
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from experiments.benchmarks.control.leading import ISSUED, Issued
from experiments.benchmarks.control.workers import LOADS, SERVERS, ObservedLoad
from sllmcore.errors import ClusterError
from sllmreal.control.deployment import ModelDeployment
from sllmreal.control.home import Home, opened_home
from sllmreal.control.messages import DeployModel
from sllmreal.control.operator import ask
from sllmreal.gateway.backend import GenerationRequest
from sllmreal.processes.attach import attached_gateway
from sllmreal.processes.supervisor import ChildCommand, kept_running
from sllmreal.router.router import RequestRouter

NUM_MODELS = 100
REQUESTS_PER_S = 100.0
OUTPUT_TOKENS = 3
STEP_S = 0.002


@dataclass(frozen=True, slots=True)
class AnsweredRequest:
    """A request and its first token, by the machine's monotonic clock."""

    model: str
    arrived_at_s: float
    answered_at_s: float


@dataclass(frozen=True, slots=True)
class ColdRequest:
    """Times of a request that needed a cold start, in seconds from its arrival.

    Attributes:
        issued_s: The leader had posted `LaunchInstance` to the worker.
        came_s: The worker began to carry it out.
        cold_start_s: The first token came.
        unexplained_s: The part of `cold_start_s` in no phase.
    """

    issued_s: float
    came_s: float
    cold_start_s: float
    unexplained_s: float


@dataclass(frozen=True, slots=True)
class Trial:
    """The results of a round. `cpu_s`: CPU time of the leader's process per cold request."""

    colds: list[ColdRequest]
    cpu_s: float


async def trial(store: str, seed: int, seconds: float) -> Trial:
    """Run a round. Raises ClusterError if a process of the cluster ends during it."""
    with TemporaryDirectory() as folder:  # a short path, for its sockets
        home = opened_home(Path(folder))
        ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        async with _cluster(store, home, ended) as router:
            rng = random.Random(seed)  # noqa: S311 - arrivals, not secrets
            asking = asyncio.create_task(_all_asked(router, rng, seconds))
            ended.add_done_callback(lambda _: asking.cancel())
            with suppress(asyncio.CancelledError):
                await asking
            if ended.done():
                raise ClusterError(f"{ended.result()}: the machine is too busy")
            asked = asking.result()
        loads = [ObservedLoad(**one) for one in json.loads((home.directory / LOADS).read_text())]
        issued = [Issued(**one) for one in json.loads((home.directory / ISSUED).read_text())]
    at_s = {one.instance_id: one.at_s for one in issued}
    colds = [_cold(one, loads, at_s) for one in asked]
    cpu_s = (issued[-1].cpu_s - issued[0].cpu_s) / (len(issued) - 1)
    return Trial([one for one in colds if one is not None], cpu_s)


async def _all_asked(
    router: RequestRouter, rng: random.Random, seconds: float
) -> list[AnsweredRequest]:
    done: list[AnsweredRequest] = []
    free = [f"m{one}" for one in range(NUM_MODELS)]

    async def one(model: str, request_id: str) -> None:
        done.append(await _answered(router, model, request_id))
        free.append(model)

    began_at_s = at_s = time.monotonic()
    async with asyncio.TaskGroup() as asking:
        for number in range(sys.maxsize):
            if at_s >= began_at_s + seconds:
                break
            await asyncio.sleep(max(0.0, at_s - time.monotonic()))
            if free:
                asking.create_task(one(free.pop(0), f"r{number}"))
            at_s += rng.expovariate(REQUESTS_PER_S)
    return done


async def _answered(router: RequestRouter, model: str, request_id: str) -> AnsweredRequest:
    arrived_at_s = time.monotonic()
    call = router.submit(
        GenerationRequest(
            request_id=request_id,
            model=model,
            tenant="",
            prompt=(1, 2, 3),
            max_output_tokens=OUTPUT_TOKENS,
        )
    )
    await anext(call)
    answered_at_s = time.monotonic()
    async for _ in call:
        pass
    return AnsweredRequest(model, arrived_at_s, answered_at_s)


def _cold(
    asked: AnsweredRequest, loads: list[ObservedLoad], issued_at_s: dict[str, float]
) -> ColdRequest | None:
    """Return the times of a request; None if it found an instance of its model.

    A model has one request at a time, so a load during the request is its own.
    """
    for load in loads:
        if load.model == asked.model and asked.arrived_at_s <= load.came_at_s < asked.answered_at_s:
            cold_start_s = asked.answered_at_s - asked.arrived_at_s
            return ColdRequest(
                issued_at_s[load.instance_id] - asked.arrived_at_s,
                load.came_at_s - asked.arrived_at_s,
                cold_start_s,
                cold_start_s - load.transfer_s - load.startup_s - STEP_S,
            )
    return None


@asynccontextmanager
async def _cluster(
    store: str, home: Home, ended: asyncio.Future[str]
) -> AsyncIterator[RequestRouter]:
    """Run a cluster of 64 GPUs; loads take about 10 ms, idle instances are stopped at once."""
    where = ("--home", str(home.directory))
    leader = ChildCommand(
        "the leader", "experiments.benchmarks.control.leading", (*where, "--store", store)
    )
    workers = ChildCommand("the workers' process", "experiments.benchmarks.control.workers", where)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(kept_running([leader], ended.set_result))
        gateway = await stack.enter_async_context(attached_gateway(home))
        await stack.enter_async_context(kept_running([workers], ended.set_result))
        for one in range(NUM_MODELS):
            await ask(home, DeployModel(_model(f"m{one}")))
        while gateway.router.num_workers < len(SERVERS):  # noqa: ASYNC110 - a message changes it
            await asyncio.sleep(0.02)
        yield gateway.router


def _model(name: str) -> ModelDeployment:
    settings = {"decode_step_s": STEP_S}
    return ModelDeployment(
        name=name,
        source=f"/{name}",
        size_bytes=10_000_000,
        context_tokens=4096,
        created_at_s=0.0,
        engine="timed",
        num_gpus=1,
        num_slots=1,
        settings=settings,
    )
