"""A worker: carries out what the leader orders on one server, and reports what came of it.

Orders take effect in their order and at once: GPUs change hands and the tiers count differently
before `execute` returns. What takes time follows: an instance that was stopped ends, and the one
that has its GPUs next waits for that before it takes memory.
"""

from collections import deque
from collections.abc import Callable

from sllmcore.errors import ControlError
from sllmcore.events import InstanceLost, LoadFinished, ServerDraining
from sllmcore.types import ServerSpec
from sllmreal.control.deployment import ModelDeployment
from sllmreal.control.messages import (
    EvictCopy,
    LaunchInstance,
    Order,
    ReportedEvent,
    StopInstance,
    WorkerOffer,
)
from sllmreal.worker.data_plane import DataPlane
from sllmreal.worker.instance import Ended, WorkerInstance
from sllmreal.worker.load_turns import AwaitedLoadTurns
from sllmreal.worker.runner import Launch
from sllmreal.worker.storage import Storage

_MAX_LOST = 1000  # instances whose stop may still be on its way


class Worker:
    """One server. Used from one event loop.

    Args:
        server: What it has.
        storage: Its tiers.
        launch: Makes what engines run in.
        data_plane: Where gateways reach the engines.
        report: Told every event for the controller, in order.
        note_deployed: Called with all deployed models at every change of them.
    """

    def __init__(
        self,
        server: ServerSpec,
        storage: Storage,
        launch: Launch,
        data_plane: DataPlane,
        report: Callable[[ReportedEvent], None],
        note_deployed: Callable[[tuple[ModelDeployment, ...]], None] = lambda models: None,
    ) -> None:
        self.server = server
        self.report = report
        self._note_deployed = note_deployed
        self._storage = storage
        self._launch = launch
        self._data_plane = data_plane
        self._turns = AwaitedLoadTurns()
        self._instances: dict[str, WorkerInstance] = {}
        self._occupants: list[WorkerInstance | None] = [None] * server.num_gpus
        self._leaving: list[WorkerInstance] = []  # stopped, but not gone
        self._lost: deque[str] = deque()  # crashed, perhaps before the controller heard of the load

    def offer(self) -> WorkerOffer:
        """What this server brings into the cluster."""
        return WorkerOffer(self.server, self._storage.resident(), self._data_plane.address)

    def deployed(self, models: tuple[ModelDeployment, ...]) -> None:
        """Pass the deployed models on. An order to start an instance has its model with it."""
        self._note_deployed(models)

    def alive(self, addresses: tuple[str, ...]) -> None:
        """Workers need not know of each other."""

    def execute(self, order: Order) -> None:
        """Carry out an order. Returns at once.

        Raises:
            ControlError: The order breaks the contract: a GPU has a tenant, a tier is full, or
                it is none for workers.
        """
        match order:
            case LaunchInstance():
                self._start(order)
            case StopInstance(_, instance_id, loaded):
                self._stop(instance_id, heard=loaded)
            case EvictCopy(_, tier, model, keep_bytes):
                self._storage.evict(tier, model, keep_bytes)
            case _:
                raise ControlError(f"{type(order).__name__} is no order for a worker")

    def drain(self) -> None:
        """Say that this server is about to leave."""
        self.report(ServerDraining(self.server.id))

    @property
    def idle(self) -> bool:
        """Whether no instance is on any GPU: a server that is to leave may go."""
        return not self._instances and not self._leaving

    async def reset(self) -> None:
        """Drop every instance, as after being declared lost. What is cached stays, and counts."""
        for instance_id in [*self._instances, *self._lost]:
            self._stop(instance_id, heard=True)
        for instance in list(self._leaving):
            await instance.gone()
        await self._storage.settled()

    async def close(self) -> None:
        """End everything. The worker takes no more orders."""
        await self.reset()
        await self._storage.close()

    def _start(self, order: LaunchInstance) -> None:
        instance_id = order.instance_id
        if instance_id in self._instances:
            raise ControlError(f"{instance_id} was started before")
        self._check_gpus(order)
        self._storage.begin(instance_id, order.model, order.cache_in)
        self._turns.join(instance_id, order.after)
        runner = self._launch(
            instance_id, order.model, lambda said: self._data_plane.deliver(instance_id, said)
        )
        instance = WorkerInstance(order, runner, self._storage, self._turns)
        before = [one for one in self._leaving if _share_gpus(one, instance)]
        self._instances[instance_id] = instance
        for index in instance.gpu_indices:
            self._occupants[index] = instance
        self._data_plane.attach(instance_id, runner.post)
        instance.begin(before, self._finished, self._ended)

    def _check_gpus(self, order: LaunchInstance) -> None:
        if not order.gpu_indices or len(set(order.gpu_indices)) != len(order.gpu_indices):
            raise ControlError(f"{order.instance_id} needs GPUs, each once: {order.gpu_indices}")
        for index in order.gpu_indices:
            if not 0 <= index < len(self._occupants):
                raise ControlError(f"{self.server.id} has no GPU {index}")
            occupant = self._occupants[index]
            if occupant is not None:
                raise ControlError(
                    f"GPU {index} of {self.server.id} is held by {occupant.id}, "
                    f"{order.instance_id} cannot have it"
                )

    def _stop(self, instance_id: str, *, heard: bool) -> None:
        self._storage.end(instance_id, acknowledged=heard)
        if instance_id in self._lost:
            self._lost.remove(instance_id)
        instance = self._instances.get(instance_id)
        if instance is None:  # it ended by itself, and the news of that are on their way
            return
        self._vacate(instance, "it was stopped")
        self._leaving.append(instance)
        instance.stop(lambda: self._leaving.remove(instance))

    def _vacate(self, instance: WorkerInstance, reason: str) -> None:
        del self._instances[instance.id]
        for index in instance.gpu_indices:
            assert self._occupants[index] is instance, "a GPU has one tenant"
            self._occupants[index] = None
        self._data_plane.detach(instance.id, reason)

    def _finished(self, event: LoadFinished) -> None:
        self.report(event)

    def _ended(self, instance: WorkerInstance, event: Ended) -> None:
        if self._instances.get(instance.id) is not instance:  # stopped in the meantime
            return
        self._vacate(instance, event.reason)
        if isinstance(event, InstanceLost):
            self._lost.append(instance.id)
            if len(self._lost) > _MAX_LOST:
                self._storage.end(self._lost.popleft(), acknowledged=True)
        self.report(event)


def _share_gpus(one: WorkerInstance, other: WorkerInstance) -> bool:
    return not set(one.gpu_indices).isdisjoint(other.gpu_indices)
