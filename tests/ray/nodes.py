"""A Ray cluster of two nodes on this machine's loopback, and a cluster of workers on it."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial

import ray
from ray.cluster_utils import Cluster

from sllmcore.build import PolicySettings
from sllmreal.control.heartbeat import LinkSettings
from sllmreal.control.messages import FromPeer
from sllmreal.leader.leader import Leader, LeaderSettings
from sllmreal.leader.memory_log import MemoryLog
from sllmreal.processes.attach import attached_gateway
from sllmreal.processes.ray_nodes import NAMESPACE, RayNode, alive_nodes, run_worker
from sllmreal.processes.ray_worker import WorkerPlan
from sllmreal.router.router import RequestRouter
from sllmreal.transport.socket_channel import listening
from sllmreal.worker.paced import PacedStorage
from tests.contract.scenarios import Scenario

PATIENCE_S = 120.0
_JOIN = (sys.executable, "-c", "import sys, ray; ray.init(sys.argv[1], log_to_driver=False)")
_JOIN_S = 60.0
OBJECT_STORE_BYTES = 80 << 20  # about the minimum of Ray; the tests put nothing into it


@dataclass(frozen=True, slots=True)
class TwoNodes:
    """The address of Ray's head, and its nodes."""

    address: str
    nodes: tuple[RayNode, ...]


@contextmanager
def two_nodes() -> Iterator[TwoNodes]:
    """Run Ray on two nodes, and connect this process to it."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - the default, 15, is too slow
    cluster = _joinable(Cluster())
    try:
        ray.init(cluster.address, namespace=NAMESPACE, configure_logging=False, log_to_driver=False)
        yield TwoNodes(cluster.address, tuple(sorted(alive_nodes(), key=lambda one: one.name)))
    finally:
        ray.shutdown()
        cluster.shutdown()  # type: ignore[no-untyped-call]


def _joinable(cluster: Cluster) -> Cluster:
    """Start the nodes, and start others if those cannot be joined.

    To join can hang inside Ray, out of reach of signals, so a process that can be killed tries it.
    """
    try:
        _add_nodes(cluster)
        subprocess.run([*_JOIN, cluster.address], check=True, timeout=_JOIN_S, capture_output=True)
    except (subprocess.SubprocessError, TimeoutError):
        cluster.shutdown()  # type: ignore[no-untyped-call]
        cluster = Cluster()
        _add_nodes(cluster)
    return cluster


def _add_nodes(cluster: Cluster) -> None:
    for name in ("a", "b"):
        cluster.add_node(
            node_name=name,
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=False,
            include_log_monitor=False,
            no_monitor=True,  # of the autoscaler
        )


@dataclass(frozen=True, slots=True)
class OnRay:
    """A cluster with its leader and gateway in this process and actors as workers."""

    leader: Leader
    router: RequestRouter


@dataclass(frozen=True, slots=True)
class _GatewaySite:
    """A `Site` for the gateway."""

    leader: str
    secret: bytes = field(repr=False)

    def key(self) -> bytes:
        return self.secret

    def worker(self, server_id: str) -> str:
        raise NotImplementedError(f"{server_id} is on a node")


@asynccontextmanager
async def on_ray(scenario: Scenario, nodes: tuple[RayNode, ...]) -> AsyncIterator[OnRay]:
    """Run the scenario's servers, one on each node."""
    key = os.urandom(32)
    patient = LinkSettings(silence_s=PATIENCE_S)  # a busy machine must not count as lost
    settings = LeaderSettings(PolicySettings(scenario.policy), grace_s=PATIENCE_S, link=patient)
    leader = Leader(settings, MemoryLog(), 1)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(leader.running())
        address = await stack.enter_async_context(
            listening("tcp:127.0.0.1:0", key, FromPeer, leader.serve_peer)
        )
        gateway = await stack.enter_async_context(attached_gateway(_GatewaySite(address, key)))
        for number, server in enumerate(scenario.servers):
            storage = partial(PacedStorage, server, scenario.resident.get(server.id, ()))
            plan = WorkerPlan(address, key, server, storage)
            await stack.enter_async_context(_worker(nodes[number], plan))
            async with asyncio.timeout(PATIENCE_S):
                while gateway.router.num_workers <= number:  # noqa: ASYNC110 - a message changes it
                    await asyncio.sleep(0.01)
        yield OnRay(leader, gateway.router)


@asynccontextmanager
async def _worker(node: RayNode, plan: WorkerPlan) -> AsyncIterator[None]:
    task = asyncio.create_task(run_worker(node, plan))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
