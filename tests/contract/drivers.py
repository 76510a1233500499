"""Drivers that run a scenario and return the commands of its controller."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import fields
from random import Random
from typing import Protocol

from sllmcore.build import PolicySettings, build_controller
from sllmcore.commands import Command, EvictCopy, LaunchInstance, StopInstance
from sllmcore.events import Event
from sllmcore.types import Checkpoint, Request, ServerSpec
from sllmcore.workload import WorkloadRequest
from sllmreal.control.deployment import ModelDeployment
from sllmreal.control.messages import ReportedEvent
from sllmreal.gateway.backend import GenerationRequest
from sllmreal.leader.leader import Leader, LeaderSettings
from sllmreal.leader.memory_log import MemoryLog
from sllmreal.migration.links import LocalNetwork
from sllmreal.processes.local import LocalCluster, LocalMember, local_cluster
from sllmreal.router.pending_generation import PendingGeneration
from sllmreal.router.router import RequestRouter
from sllmreal.worker.data_plane import DataPlane
from sllmreal.worker.paced import PacedStorage
from sllmreal.worker.process_runner import process_launch
from sllmreal.worker.runner import MakeRunner
from sllmreal.worker.thread_runner import thread_launch
from sllmreal.worker.worker import Worker
from sllmsim.cluster import SimCluster
from sllmsim.setup import ServerHardware, SimModel, SimServerSetup, SimSetup
from sllmsim.timing.linear import LinearTiming
from tests.builders import gpu_of
from tests.contract.scenarios import CONTEXT_TOKENS, MODEL_BYTES, STEP_S, Asked, Reached, Scenario

# Ids, and numbers that depend on the clock, differ between drivers.
_NOT_COMPARED = {"id", "estimate", "expected_s"}

CommandLists = dict[str, list[tuple[object, ...]]]


def command_lists(commands: Sequence[Command]) -> CommandLists:
    """Return the commands to each server and about each request, in order.

    The order between servers may depend on a millisecond, so it is not compared.
    """
    servers: dict[str, str] = {}
    result: CommandLists = {}
    for command in commands:
        match command:
            case LaunchInstance():
                servers[command.instance_id] = recipient = command.server_id
            case StopInstance():
                recipient = servers[command.instance_id]
            case EvictCopy():
                recipient = command.server_id
            case _:
                recipient = command.request_id
        result.setdefault(recipient, []).append(_compared(command))
    return result


def _compared(command: Command) -> tuple[object, ...]:
    values = [
        getattr(command, one.name) for one in fields(command) if one.name not in _NOT_COMPARED
    ]
    return (type(command).__name__, *values)


def simulated(scenario: Scenario) -> CommandLists:
    """Run a scenario on the simulated cluster."""
    commands: list[Command] = []

    def sink(_: float, __: Event, given: Sequence[Command]) -> None:
        commands.extend(given)

    timing = LinearTiming(fixed_s=STEP_S, prefill_per_token_s=0.0, prefill_fixed_s=STEP_S)
    setup = SimSetup(
        servers=tuple(_sim_server(one, scenario) for one in scenario.servers),
        models=tuple(
            SimModel(Checkpoint(one, MODEL_BYTES), timing, scenario.num_slots)
            for one in scenario.models
        ),
    )
    controller = build_controller(PolicySettings(scenario.policy), Random(0))
    jobs = [_job(number, asked) for number, asked in enumerate(scenario.asked)]
    SimCluster(controller, setup, jobs, [sink]).run()
    return command_lists(commands)


def _sim_server(spec: ServerSpec, scenario: Scenario) -> SimServerSetup:
    hardware = ServerHardware(
        gpu=gpu_of(spec.gpu_memory_bytes),
        num_gpus=spec.num_gpus,
        dram_pool_bytes=spec.dram_bytes,
        ssd_bytes=spec.ssd_bytes,
        ssd_read_bytes_per_s=spec.ssd_bytes_per_s,
        ssd_write_bytes_per_s=spec.ssd_bytes_per_s,
        nic_bytes_per_s=spec.remote_bytes_per_s,
        pcie_bytes_per_s=spec.dram_bytes_per_s,
    )
    return SimServerSetup(spec.id, hardware, scenario.resident.get(spec.id, ()))


def _job(number: int, asked: Asked) -> WorkloadRequest:
    request = Request(f"r{number}", asked.model, asked.at_s, asked.input_tokens)
    return WorkloadRequest(request, asked.output_tokens, asked.leaves_at_s)


def in_threads(scenario: Scenario) -> CommandLists:
    """Run a scenario on a real cluster with engines in threads."""
    network = LocalNetwork()
    return asyncio.run(
        played(scenario, _local(scenario, lambda: thread_launch(links=network.links)))
    )


def in_processes(scenario: Scenario) -> CommandLists:
    """Run a scenario on a real cluster with engines in processes."""
    return asyncio.run(played(scenario, _local(scenario, process_launch)))


@asynccontextmanager
async def _local(
    scenario: Scenario, launch: Callable[[], MakeRunner]
) -> AsyncIterator[LocalCluster]:
    settings = LeaderSettings(PolicySettings(scenario.policy))
    members = [_member(one, scenario, launch()) for one in scenario.servers]
    async with local_cluster(settings, MemoryLog(), members) as cluster:
        yield cluster


class Running(Protocol):
    """A real cluster with all servers joined, in their order."""

    @property
    def leader(self) -> Leader: ...

    @property
    def router(self) -> RequestRouter: ...


async def played(scenario: Scenario, running: AbstractAsyncContextManager[Running]) -> CommandLists:
    """Run a scenario on a real cluster."""
    commands: list[Command] = []

    def sink(_: float, __: Event, given: Sequence[Command]) -> None:
        commands.extend(given)

    async with running as cluster:
        cluster.leader.loop.sinks.append(sink)
        for name in scenario.models:
            cluster.leader.deploy(_model(name, scenario.num_slots))
        progress = Progress(len(scenario.asked))
        async with asyncio.timeout(60):
            await asyncio.gather(
                *(
                    _ask(cluster.router, progress, number, one)
                    for number, one in enumerate(scenario.asked)
                )
            )
        async with asyncio.timeout(10):
            while cluster.router.generations:  # noqa: ASYNC110 - engines acknowledge their ends
                await asyncio.sleep(0.01)
    return command_lists(commands)


class Progress:
    """The number of tokens that each client has received, and the ended requests."""

    def __init__(self, num_requests: int) -> None:
        self._tokens = [0] * num_requests
        self._ended = [False] * num_requests
        self._changed = asyncio.Condition()

    async def note(self, request: int, tokens: int, *, ended: bool) -> None:
        async with self._changed:
            self._tokens[request] += tokens
            self._ended[request] = ended
            self._changed.notify_all()

    async def wait(self, moment: Reached | None) -> None:
        if moment is not None:
            async with self._changed:
                await self._changed.wait_for(lambda: self._reached(moment))

    def _reached(self, moment: Reached) -> bool:
        if moment.tokens is None:
            return self._ended[moment.request]
        return self._tokens[moment.request] >= moment.tokens


async def _ask(router: RequestRouter, progress: Progress, number: int, asked: Asked) -> None:
    await progress.wait(asked.after)
    prompt = tuple(range(asked.input_tokens))
    submission = GenerationRequest(
        request_id=f"r{number}",
        model=asked.model,
        tenant="",
        prompt=prompt,
        max_output_tokens=asked.output_tokens,
    )
    call = router.submit(submission)
    reading = asyncio.create_task(_read(call, progress, number))
    if asked.leaves_after is None:
        await reading
    else:
        await progress.wait(asked.leaves_after)
        reading.cancel()
        await call.aclose()


async def _read(call: PendingGeneration, progress: Progress, number: int) -> None:
    async for generated in call:
        ended = generated.finish is not None
        await progress.note(number, len(generated.tokens), ended=ended)


def _model(name: str, num_slots: int) -> ModelDeployment:
    settings = {"decode_step_s": STEP_S}
    return ModelDeployment(
        name=name,
        source=f"/{name}",
        size_bytes=MODEL_BYTES,
        context_tokens=CONTEXT_TOKENS,
        created_at_s=0.0,
        engine="timed",
        num_gpus=1,
        num_slots=num_slots,
        settings=settings,
    )


def _member(spec: ServerSpec, scenario: Scenario, launch: MakeRunner) -> LocalMember:
    def make(plane: DataPlane, report: Callable[[ReportedEvent], None]) -> Worker:
        storage = PacedStorage(spec, scenario.resident.get(spec.id, ()))
        return Worker(
            server=spec, storage=storage, make_runner=launch, data_plane=plane, report=report
        )

    return LocalMember(spec, make)
