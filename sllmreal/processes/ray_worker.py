"""A worker as a Ray actor: Ray places it on a node and restarts it, and carries nothing else.

Orders, tokens and weights go over the cluster's own channels, as for any other worker.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field

import ray

from sllmcore.types import ServerSpec
from sllmreal.processes.worker import work
from sllmreal.transport.addresses import tcp_address
from sllmreal.worker.process_options import ProcessOptions
from sllmreal.worker.storage import Storage


@dataclass(frozen=True, slots=True)
class WorkerPlan:
    """What an actor is to be.

    Args:
        leader: Where to look for it from other machines: see `Site`.
        key: The cluster's. Whoever may read Ray's tasks can read it: Ray's cluster is trusted.
        server: Whose worker.
        storage: Opens the server's tiers, on the node.
        num_spares: Engine processes booted ahead.
    """

    leader: str
    key: bytes = field(repr=False)
    server: ServerSpec
    storage: Callable[[], Storage]
    num_spares: int = 0


@dataclass(frozen=True, slots=True)
class _NodeSite:
    """A `Site` where there is no home."""

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
    """The actor. Its methods are coroutines, so that Ray runs them in one event loop."""

    def __init__(self, plan: WorkerPlan) -> None:
        self._plan = plan

    @ray.method
    async def run(self) -> None:
        """Be the worker until cancelled. Ray calls it again in an actor that was restarted."""
        plan = self._plan
        host: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        anywhere = tcp_address(host, 0)
        options = ProcessOptions(
            move_address=anywhere,
            num_spares=plan.num_spares,
            environment={"PYTHONSAFEPATH": "1"},  # where `ray start` ran is no place for modules
        )
        await work(_NodeSite(plan, anywhere), plan.server, plan.storage(), options)

    @ray.method
    async def pid(self) -> int:
        """Of the actor's process."""
        return os.getpid()
