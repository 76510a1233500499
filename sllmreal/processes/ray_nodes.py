"""A process that keeps a worker on every node of a Ray cluster.

    python -m sllmreal.processes.ray_nodes --home DIRECTORY --leader tcp:HOST:PORT [--address RAY]

The package must be installed on every node; a node joins with `ray start --address=...`. A node
that joins later gets its worker, too. Ray restarts an actor that dies; this process places a worker
again that ended by an error of its own.
"""

import argparse
import asyncio
import logging
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sllmcore.errors import ClusterError, UsageError
from sllmreal import logs
from sllmreal.control.home import opened_home
from sllmreal.processes.ray_worker import RayWorker, WorkerPlan
from sllmreal.processes.run import cancel_on_signals, run_process
from sllmreal.processes.server_options import add_sizes, num_spares, opened_storage, sized_server

NAMESPACE = "sllm"
DEFAULT_SSD = Path("~/.sllm/ssd")
_LOG = logging.getLogger(__name__)
_STOP_S = 5.0  # from the cancellation of a worker to the kill of its actor
_TICK_S = 1.0
_MAX_ID_CHARS = 24


@dataclass(frozen=True, slots=True)
class RayNode:
    """A node that is alive. `name` is that of `ray start --node-name`; default: the IP address."""

    id: str
    name: str
    num_gpus: int


PlanFor = Callable[[RayNode, str], WorkerPlan]


def alive_nodes(resource: str | None = None) -> list[RayNode]:
    """Return the nodes that are alive and have the resource, if one is given. Blocks."""
    return [
        RayNode(node["NodeID"], node["NodeName"], int(node["Resources"].get("GPU", 0)))
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"] and (resource is None or resource in node["Resources"])
    ]


def server_id(node: RayNode, taken: set[str]) -> str:
    """Return a server's id made from its node's name, so that it stays when the node comes back."""
    name = re.sub(r"[^A-Za-z0-9_-]", "-", node.name)[:_MAX_ID_CHARS]
    return name if name and name not in taken else f"{name[: _MAX_ID_CHARS - 7]}-{node.id[:6]}"


class WorkerPlacement:
    """Workers by node.

    Args:
        plan_for: Returns the plan of a node's worker; its arguments are the node and the server id.
        resource: The resource that a node needs to get a worker; None: all nodes get one.
    """

    def __init__(self, plan_for: PlanFor, resource: str | None = None) -> None:
        self._plan_for = plan_for
        self._resource = resource
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._names: dict[str, str] = {}

    async def keep(self) -> None:
        """Keep a worker on every node until cancelled, then end all of them.

        Raises:
            ClusterError: Ray's head is gone.
        """
        try:
            while True:
                self._place(await asyncio.to_thread(alive_nodes, self._resource))
                await asyncio.sleep(_TICK_S)
                self._note_ends()
        except ray.exceptions.RayError as error:
            raise ClusterError(f"Ray does not answer: {error}") from error
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _place(self, nodes: Sequence[RayNode]) -> None:
        for node in nodes:
            if node.id not in self._tasks:
                name = self._names[node.id] = server_id(node, set(self._names.values()))
                plan = self._plan_for(node, name)
                self._tasks[node.id] = asyncio.create_task(run_worker(node, plan))

    def _note_ends(self) -> None:
        for node_id, task in list(self._tasks.items()):
            if task.done():
                del self._tasks[node_id]
                name, error = self._names.pop(node_id), task.exception()
                _LOG.warning("worker ended, starting it again: %s", error, extra={"server": name})


async def run_worker(node: RayNode, plan: WorkerPlan) -> None:
    """Run a worker in an actor on a node until cancelled. Raises Ray's error if the actor ends."""
    actor = (
        ray.remote(RayWorker)
        .options(
            name=f"worker {plan.server.id}",
            num_cpus=0,
            num_gpus=node.num_gpus,
            max_restarts=-1,
            max_task_retries=-1,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False),
        )
        .remote(plan)
    )
    running = actor.run.remote()
    try:
        await running
    finally:
        with suppress(ray.exceptions.RayError, TimeoutError):
            ray.cancel(running)
            async with asyncio.timeout(_STOP_S):
                await running
        ray.kill(actor)  # type: ignore[arg-type]


async def _main(arguments: argparse.Namespace) -> None:
    home = opened_home(arguments.home)
    leader = arguments.leader or home.leader
    if leader.startswith("unix:"):
        raise UsageError(f"workers on other machines cannot reach a leader at {leader}")

    def plan_for(node: RayNode, name: str) -> WorkerPlan:
        server = sized_server(arguments, name, node.num_gpus or arguments.gpus)
        directory = arguments.ssd_directory / name
        storage = partial(opened_storage, server, directory, paced=arguments.paced)
        return WorkerPlan(
            leader=leader,
            key=home.key(),
            server=server,
            storage=storage,
            num_spares=num_spares(arguments),
            log=logs.configured(),
        )

    _join_ray(arguments.address)
    try:
        await WorkerPlacement(plan_for, arguments.resource).keep()
    finally:
        ray.shutdown()


def _join_ray(address: str) -> None:
    try:
        ray.init(address, namespace=NAMESPACE, configure_logging=False)
    except (ConnectionError, ValueError) as error:
        raise ClusterError(f"no Ray cluster at {address}: {error}") from error
    task = asyncio.current_task()
    assert task is not None
    cancel_on_signals(task)  # again, for `ray.init` has set handlers of its own


def main(argv: Sequence[str] | None = None) -> int:
    """Run the process; see `run_process` for the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="the cluster's directory")
    parser.add_argument("--leader", help="tcp:HOST:PORT or etcd:HOST:PORT,...; default: the home's")
    parser.add_argument(
        "--address", default="auto", help="Ray's address: auto, or HOST:PORT of its head"
    )
    parser.add_argument(
        "--resource", help="place workers only on nodes with this resource (ray start --resources)"
    )
    parser.add_argument(
        "--ssd-directory",
        type=Path,
        default=DEFAULT_SSD,
        help="directory of the SSD tier on every node",
    )
    add_sizes(parser)
    logs.add_log_options(parser)
    arguments = parser.parse_args(argv)
    logs.configure_as_given(arguments)
    return run_process("placement", _main(arguments))


if __name__ == "__main__":
    sys.exit(main())
