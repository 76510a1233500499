"""A whole cluster in one event loop, with timed engines; every token is checked."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from sllmcore.commands import LaunchInstance
from sllmcore.events import InstanceLost, MigrationFinished
from sllmcore.types import DRAM, Residency, ServerSpec
from sllmreal.control.deployment import ModelDeployment
from sllmreal.control.heartbeat import LinkSettings
from sllmreal.control.messages import ReportedEvent
from sllmreal.engine.protocol import Engine, SequenceSpec
from sllmreal.engine.timed import TimedOptions, timed_engine
from sllmreal.gateway.backend import FailedError, GenerationRequest
from sllmreal.leader.leader import LeaderSettings
from sllmreal.leader.memory_log import MemoryLog
from sllmreal.migration.links import LocalNetwork
from sllmreal.processes.local import LocalCluster, LocalMember, local_cluster
from sllmreal.worker.data_plane import DataPlane
from sllmreal.worker.paced import PacedStorage
from sllmreal.worker.thread_runner import thread_launch
from sllmreal.worker.worker import Worker

pytestmark = pytest.mark.asyncio
SETTINGS = LeaderSettings(link=LinkSettings(heartbeat_s=0.2, silence_s=10.0, redial_s=0.01))
SIZE_BYTES = 1000


def server(number: int, num_gpus: int = 1) -> ServerSpec:
    return ServerSpec(
        id=f"s{number}",
        num_gpus=num_gpus,
        gpu_memory_bytes=1 << 30,
        dram_bytes=10_000,
        ssd_bytes=10_000,
        remote_bytes_per_s=1e6,
        ssd_bytes_per_s=2e6,
        dram_bytes_per_s=1e7,
    )


def member(
    spec: ServerSpec, network: LocalNetwork, resident: tuple[Residency, ...] = ()
) -> LocalMember:
    def make(plane: DataPlane, report: Callable[[ReportedEvent], None]) -> Worker:
        storage = PacedStorage(spec, resident)
        return Worker(
            server=spec,
            storage=storage,
            make_runner=thread_launch(links=network.links),
            data_plane=plane,
            report=report,
        )

    return LocalMember(spec, make)


def model(name: str, num_slots: int = 1, decode_step_s: float = 0.001) -> ModelDeployment:
    settings = {"decode_step_s": decode_step_s}
    return ModelDeployment(
        name=name,
        source=f"/models/{name}",
        size_bytes=SIZE_BYTES,
        context_tokens=4096,
        created_at_s=0.0,
        engine="timed",
        num_gpus=1,
        num_slots=num_slots,
        settings=settings,
    )


def expected(submission: GenerationRequest) -> tuple[int, ...]:
    """Return the tokens that an undisturbed engine generates."""
    engine: Engine = timed_engine(TimedOptions(submission.model, 4096, 1))
    engine.start(
        SequenceSpec(submission.request_id, submission.prompt, submission.max_output_tokens)
    )
    while engine.has_work:
        engine.step()
    return engine.output(submission.request_id)


_NUMBERS = itertools.count()


def submission(name: str, num_tokens: int = 20) -> GenerationRequest:
    number = next(_NUMBERS)
    return GenerationRequest(
        request_id=f"r{number}",
        model=name,
        tenant="tenant",
        prompt=(1, 2, 3, number),
        max_output_tokens=num_tokens,
    )


async def answer(cluster: LocalCluster, asked: GenerationRequest) -> tuple[int, ...]:
    tokens: list[int] = []
    async for generated in cluster.router.submit(asked):
        tokens += generated.tokens
        if generated.finish is not None:
            break
    return tuple(tokens)


@asynccontextmanager
async def running(
    *members: LocalMember, models: tuple[ModelDeployment, ...]
) -> AsyncIterator[LocalCluster]:
    async with local_cluster(SETTINGS, MemoryLog(), members) as cluster:
        for spec in models:
            cluster.leader.deploy(spec)
        yield cluster
        async with asyncio.timeout(5):
            while cluster.router.generations:  # noqa: ASYNC110 - many things change it
                await asyncio.sleep(0.005)
        cluster.leader.loop.controller.audit()


async def test_a_request_is_answered_from_a_cold_model() -> None:
    network = LocalNetwork()
    async with running(member(server(0), network), models=(model("a"),)) as cluster:
        asked = submission("a")

        assert await answer(cluster, asked) == expected(asked)


async def test_requests_over_more_models_than_gpus_are_answered_in_full() -> None:
    network = LocalNetwork()
    members = [member(server(number), network) for number in range(2)]
    names = ("a", "b", "c", "d")
    async with running(*members, models=tuple(model(one, 2) for one in names)) as cluster:
        asked = [submission(names[number % 4], 10 + number) for number in range(24)]

        answers = await asyncio.gather(*(answer(cluster, one) for one in asked))

    assert answers == [expected(one) for one in asked]


async def test_a_running_request_migrates_for_a_model_in_the_servers_dram() -> None:
    network = LocalNetwork()
    b_in_dram = (Residency(DRAM, "b", SIZE_BYTES),)
    members = [member(server(0), network, b_in_dram)]
    slow = ServerSpec(
        id="s1",
        num_gpus=1,
        gpu_memory_bytes=1 << 30,
        dram_bytes=10_000,
        ssd_bytes=10_000,
        remote_bytes_per_s=2e3,
        ssd_bytes_per_s=2e6,
        dram_bytes_per_s=1e7,
    )  # half a second to load
    events: list[object] = []
    async with running(*members, models=(model("a", decode_step_s=0.01), model("b"))) as cluster:
        cluster.leader.loop.sinks.append(lambda _, event, __: events.append(event))
        first = submission("a", 400)
        streaming = asyncio.create_task(answer(cluster, first))
        await asyncio.sleep(0.3)  # it runs on s0, the only server
        async with cluster.join(member(slow, network, (Residency(DRAM, "a", SIZE_BYTES),))):
            second = submission("b", 20)

            assert await answer(cluster, second) == expected(second)
            assert await streaming == expected(first)

    moved = [one for one in events if isinstance(one, MigrationFinished)]
    assert len(moved) == 1
    assert moved[0].source_id != moved[0].destination_id


async def test_a_request_survives_the_crash_of_its_engine() -> None:
    network = LocalNetwork()
    async with running(member(server(0), network), models=(model("a", 1, 0.005),)) as cluster:
        events: list[object] = []
        cluster.leader.loop.sinks.append(lambda _, event, __: events.append(event))
        asked = submission("a", 100)
        streaming = asyncio.create_task(answer(cluster, asked))
        await asyncio.sleep(0.2)
        (instance,) = cluster.workers[0]._instances.values()
        await instance.runner.stop()  # with the next line: a crash of the engine
        instance.runner._lost.set_result("crashed")  # type: ignore[attr-defined]

        assert await streaming == expected(asked)
        assert any(isinstance(event, InstanceLost) for event in events)


async def test_a_client_that_disconnects_frees_its_slot() -> None:
    network = LocalNetwork()
    async with running(member(server(0), network), models=(model("a", 1, 0.01),)) as cluster:
        call = cluster.router.submit(submission("a", 4000))
        await anext(call)

        await call.aclose()
        asked = submission("a", 5)
        async with asyncio.timeout(1):
            assert await answer(cluster, asked) == expected(asked)


async def test_a_request_for_an_unknown_model_is_refused() -> None:
    network = LocalNetwork()
    async with running(member(server(0), network), models=()) as cluster:
        with pytest.raises(Exception, match="not deployed"):
            await answer(cluster, submission("a"))


async def test_a_request_that_the_engine_refuses_fails_with_its_reason() -> None:
    network = LocalNetwork()
    async with running(member(server(0), network), models=(model("a"),)) as cluster:
        asked = GenerationRequest(
            request_id="long",
            model="a",
            tenant="tenant",
            prompt=tuple(range(5000)),
            max_output_tokens=5,
        )

        with pytest.raises(FailedError, match="ContextTooLongError"):
            await answer(cluster, asked)


async def test_loads_follow_one_another_on_a_path() -> None:
    network = LocalNetwork()
    names = ("a", "b")
    async with running(
        member(server(0, num_gpus=2), network), models=tuple(model(one) for one in names)
    ) as cluster:
        commands: list[object] = []
        cluster.leader.loop.sinks.append(lambda _, __, c: commands.extend(c))
        asked = [submission(one, 5) for one in names]

        await asyncio.gather(*(answer(cluster, one) for one in asked))

    loads = [one for one in commands if isinstance(one, LaunchInstance)]
    assert [load.after for load in loads] == [None, loads[0].instance_id]
