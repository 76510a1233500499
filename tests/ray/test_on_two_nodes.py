"""Workers as actors on the two nodes of a Ray cluster: the contract, and kills."""

import asyncio
import os
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from experiments.campaigns.cluster.testbed import expected_tokens, process_ids
from sllmreal.control.deployment import ModelDeployment
from sllmreal.control.home import Home, opened_home
from sllmreal.control.messages import ClusterStatus, DeployModel, GetStatus
from sllmreal.control.operator import ask
from sllmreal.gateway.backend import GenerationRequest
from sllmreal.processes.attach import AttachedGateway, attached_gateway
from sllmreal.processes.supervisor import ChildCommand, kept_running
from tests.contract.drivers import played, simulated
from tests.contract.scenarios import SCENARIOS, Scenario

if TYPE_CHECKING:
    from tests.ray.nodes import TwoNodes

ray = pytest.importorskip("ray")
nodes = pytest.importorskip("tests.ray.nodes")
ray_nodes = pytest.importorskip("sllmreal.processes.ray_nodes")

# Ray is started once for all tests; it leaves sockets and files to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
STEP_S = 0.01
REQUEST = GenerationRequest("r", "m", "", (1, 2, 3), 300)


@pytest.fixture(scope="module")
def two() -> Iterator["TwoNodes"]:
    with nodes.two_nodes() as two:
        yield two


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.name)
def test_actors_get_the_commands_of_the_simulation(two: "TwoNodes", scenario: Scenario) -> None:
    commands = asyncio.run(played(scenario, nodes.on_ray(scenario, two.nodes)))

    assert commands == simulated(scenario)


@asynccontextmanager
async def placed(address: str, home: Home) -> AsyncIterator[AttachedGateway]:
    """Run leader and placement as processes, until a worker on each node has joined."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        leader = f"tcp:127.0.0.1:{free.getsockname()[1]}"
    where = ("--home", str(home.directory))
    on_ray = ("--address", address, "--leader", leader, "--paced", "--gpus", "2")
    commands = [
        ChildCommand("leader", "sllmreal.processes.leader", (*where, "--listen", leader)),
        ChildCommand("placement", "sllmreal.processes.ray_nodes", (*where, *on_ray)),
    ]
    async with kept_running(commands), attached_gateway(home) as gateway:
        async with asyncio.timeout(nodes.PATIENCE_S):
            while gateway.router.num_workers < 2:  # noqa: ASYNC110 - a message changes it
                await asyncio.sleep(0.05)
        settings = {"decode_step_s": STEP_S}
        model = ModelDeployment("m", "/m", 10_000_000, 4096, 0.0, "timed", 1, 4, settings)
        await ask(home, DeployModel(model))
        yield gateway


async def status(home: Home) -> ClusterStatus:
    answer = await ask(home, GetStatus())
    assert isinstance(answer, ClusterStatus)
    return answer


async def connected(home: Home) -> list[str]:
    """Wait until both servers are connected, and return their ids."""
    async with asyncio.timeout(nodes.PATIENCE_S):
        while True:
            there = [one.id for one in (await status(home)).servers if one.connected]
            if len(there) == 2:
                return sorted(there)
            await asyncio.sleep(0.1)


async def interrupted(address: str, home: Home) -> tuple[list[int], list[str]]:
    """Kill the actor that runs a request, then the leader.

    Returns the client's tokens and the servers that are connected at the end.
    """
    tokens: list[int] = []
    async with placed(address, home) as gateway:
        async for generated in gateway.router.submit(REQUEST):
            before, after = len(tokens), len(tokens) + len(generated.tokens)
            tokens += generated.tokens
            if before < 50 <= after:
                [instance] = (await status(home)).instances
                victim = ray.get_actor(f"worker {instance.server_id}")
                pid = await victim.pid.remote()
                ray.kill(victim, no_restart=False)
            if before < 150 <= after:
                [leader] = process_ids("leader", home)
                os.kill(leader, signal.SIGKILL)
        servers = await connected(home)
        assert await victim.pid.remote() != pid, "it is another process"
    return tokens, servers


def test_an_actor_that_is_killed_comes_back_and_its_request_continues(
    two: "TwoNodes",
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        home = opened_home(Path(directory) / "home")

        tokens, servers = asyncio.run(interrupted(two.address, home))

    assert tuple(tokens) == expected_tokens(REQUEST)
    assert servers == ["a", "b"]


def test_a_server_has_its_nodes_name_unless_that_is_taken() -> None:
    node = ray_nodes.RayNode("0123456789abcdef", "10.0.0.5", 8)

    assert ray_nodes.server_id(node, set()) == "10-0-0-5"
    assert ray_nodes.server_id(node, {"10-0-0-5"}) == "10-0-0-5-012345"
    long = ray_nodes.RayNode("0123456789abcdef", "a" * 40, 8)
    assert ray_nodes.server_id(long, {"a" * 24}) == "a" * 17 + "-012345"
