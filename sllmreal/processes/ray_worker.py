"""A worker as a Ray actor, which Ray places on a node and restarts.

Orders, tokens and weights go over the cluster's own channels, as for any other worker.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field

import ray

from sllmcore.types import ServerSpec
from sllmreal import logs
from sllmreal.processes.worker import work
from sllmreal.transport.addresses import tcp_address
from sllmreal.worker.process_options import ProcessOptions
from sllmreal.worker.storage import Storage


@dataclass(frozen=True, slots=True)
class WorkerPlan:
    """Settings of a worker in an actor.

    Args:
        leader: The `Site.leader` for other machines.
        key: The cluster's key. Ray must be trusted: all users of Ray can read it.
        server: The worker's server.
        storage: Opens the server's tiers, on the node.
        num_spares: Engine processes that the worker starts in advance.
        log: The log settings of the actor; None: Python's own.
    """

    leader: str
    key: bytes = field(repr=False)
    server: ServerSpec
    storage: Callable[[], Storage]
    num_spares: int = 0
    log: logs.LogSettings | None = None


@dataclass(frozen=True, slots=True)
class _NodeSite:
    """A `Site` on a node without a home."""

    plan: WorkerPlan
    address: str

    @property
    def leader(self) -> str:
        return self.plan.leader

    def key(self) -> bytes:
        return self.plan.key

    def worker(self, server_id: str) -> str:
        return self.address


class RayWorker:
    """The actor. Ray runs its coroutine methods in one event loop."""

    def __init__(self, plan: WorkerPlan) -> None:
        self._plan = plan

    @ray.method
    async def run(self) -> None:
        """Run the worker until cancelled. Ray calls it again in an actor that was restarted."""
        plan = self._plan
        if plan.log is not None:
            logs.configure(plan.log.level, plan.log.as_json)
        host: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        anywhere = tcp_address(host, 0)
        options = ProcessOptions(
            move_address=anywhere,
            num_spares=plan.num_spares,
            environment={"PYTHONSAFEPATH": "1"},  # import nothing from the folder of `ray start`
        )
        await work(_NodeSite(plan, anywhere), plan.server, plan.storage(), options)

    @ray.method
    async def pid(self) -> int:
        """Return the id of the actor's process."""
        return os.getpid()
