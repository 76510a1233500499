"""A worker: executes the leader's messages for one server, and reports the events.

A message takes effect at once and in order: GPUs change hands and the tiers' accounts change before
`execute` returns. The rest follows: a stopped instance ends, and the next occupant of its GPUs
waits for that end before it takes memory.
"""

import logging
import time
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
from sllmreal.worker.runner import MakeRunner
from sllmreal.worker.storage import Storage

_LOG = logging.getLogger(__name__)
_MAX_LOST = 1000  # crashed instances that the controller may still stop


class Worker:
    """The worker of one server. Used from one event loop.

    Args:
        server: The server's description.
        storage: The server's tiers.
        make_runner: Makes the runners of engines.
        data_plane: The relay between gateways and engines.
        report: Called with each event for the controller, in order.
        note_deployed: Called with all deployed models at every change of them.
    """

    def __init__(
        self,
        server: ServerSpec,
        storage: Storage,
        make_runner: MakeRunner,
        data_plane: DataPlane,
        report: Callable[[ReportedEvent], None],
        note_deployed: Callable[[tuple[ModelDeployment, ...]], None] = lambda models: None,
    ) -> None:
        self.server = server
        self.report = report
        self._note_deployed = note_deployed
        self._storage = storage
        self._make_runner = make_runner
        self._data_plane = data_plane
        self._turns = AwaitedLoadTurns()
        self._instances: dict[str, WorkerInstance] = {}
        self._occupants: list[WorkerInstance | None] = [None] * server.num_gpus
        self._leaving: list[WorkerInstance] = []  # stopped, but not yet gone
        self._lost: deque[str] = deque()  # crashed instances, not yet stopped by the controller

    def offer(self) -> WorkerOffer:
        """Return the description of this server and of its tiers' content."""
        return WorkerOffer(self.server, self._storage.resident(), self._data_plane.address)

    def deployed(self, models: tuple[ModelDeployment, ...]) -> None:
        """Pass the deployed models on. A message that starts an instance has its model with it."""
        self._note_deployed(models)

    def alive(self, addresses: tuple[str, ...]) -> None:
        """Ignore the addresses of other workers."""

    def execute(self, order: Order) -> None:
        """Execute a message. Return at once.

        Raises:
            ControlError: The message breaks the contract: a GPU has an occupant, a tier is full, or
                the message is not for workers.
        """
        match order:
            case LaunchInstance():
                self._start(order)
            case StopInstance(_, instance_id, loaded):
                self._stop(instance_id, heard=loaded)
            case EvictCopy(_, tier, model, keep_bytes):
                self._storage.evict(tier, model, keep_bytes)
                ids = {"server": self.server.id, "model": model}
                _LOG.info("copy evicted from %s: %d bytes kept", tier.name, keep_bytes, extra=ids)
            case _:
                raise ControlError(f"{type(order).__name__} is not for a worker")

    def drain(self) -> None:
        """Report that this server is about to leave."""
        self.report(ServerDraining(self.server.id))

    @property
    def idle(self) -> bool:
        """True if all GPUs are free: a server that is to leave may go."""
        return not self._instances and not self._leaving

    async def reset(self) -> None:
        """Stop every instance, as when the worker was lost. Cached bytes stay and count."""
        for instance_id in [*self._instances, *self._lost]:
            self._stop(instance_id, heard=True)
        for instance in list(self._leaving):
            await instance.gone()
        await self._storage.settled()

    async def close(self) -> None:
        """Stop everything. The worker executes no more messages."""
        await self.reset()
        await self._storage.close()

    def _start(self, order: LaunchInstance) -> None:
        instance_id = order.instance_id
        if instance_id in self._instances:
            raise ControlError(f"instance {instance_id} was launched before")
        self._check_gpus(order)
        self._storage.begin(instance_id, order.model, order.cache_in)
        self._turns.join(instance_id, order.after)
        runner = self._make_runner(
            instance_id, order.model, lambda message: self._data_plane.deliver(instance_id, message)
        )
        instance = WorkerInstance(order, runner, self._storage, self._turns)
        before = [one for one in self._leaving if _share_gpus(one, instance)]
        self._instances[instance_id] = instance
        for index in instance.gpu_indices:
            self._occupants[index] = instance
        self._data_plane.attach(instance_id, runner.post)
        instance.begin(before, lambda event: self._finished(instance, event), self._ended)
        _LOG.info("instance launched on GPUs %s", instance.gpu_indices, extra=self._ids(instance))

    def _check_gpus(self, order: LaunchInstance) -> None:
        if not order.gpu_indices or len(set(order.gpu_indices)) != len(order.gpu_indices):
            raise ControlError(f"{order.instance_id} needs distinct GPUs, got {order.gpu_indices}")
        for index in order.gpu_indices:
            if not 0 <= index < len(self._occupants):
                raise ControlError(f"{self.server.id} has no GPU {index}")
            occupant = self._occupants[index]
            if occupant is not None:
                raise ControlError(
                    f"GPU {index} of {self.server.id} has the occupant {occupant.id}; "
                    f"instance {order.instance_id} cannot be launched there"
                )

    def _stop(self, instance_id: str, *, heard: bool) -> None:
        self._storage.end(instance_id, acknowledged=heard)
        if instance_id in self._lost:
            self._lost.remove(instance_id)
        instance = self._instances.get(instance_id)
        if instance is None:  # the instance has ended by itself, which is reported
            return
        self._free_gpus(instance, "the instance was stopped")
        self._leaving.append(instance)
        began_s = time.monotonic()

        def gone() -> None:
            self._leaving.remove(instance)
            took_s = time.monotonic() - began_s
            _LOG.info("instance stopped in %.3f s", took_s, extra=self._ids(instance))

        instance.stop(gone)

    def _free_gpus(self, instance: WorkerInstance, reason: str) -> None:
        del self._instances[instance.id]
        for index in instance.gpu_indices:
            assert self._occupants[index] is instance, "a GPU has one occupant"
            self._occupants[index] = None
        self._data_plane.detach(instance.id, reason)

    def _ids(self, instance: WorkerInstance) -> dict[str, str]:
        model = instance.model.name
        return {"instance": instance.id, "server": self.server.id, "model": model}

    def _finished(self, instance: WorkerInstance, event: LoadFinished) -> None:
        _LOG.info(
            "instance ready: %d bytes from %s in %.3f s, %.3f s besides",
            event.num_bytes,
            event.source.name,
            event.transfer_s,
            event.startup_s,
            extra=self._ids(instance),
        )
        self.report(event)

    def _ended(self, instance: WorkerInstance, event: Ended) -> None:
        if self._instances.get(instance.id) is not instance:  # stopped in the meantime
            return
        self._free_gpus(instance, event.reason)
        what = "instance lost" if isinstance(event, InstanceLost) else "load failed"
        _LOG.warning("%s: %s", what, event.reason, extra=self._ids(instance))
        if isinstance(event, InstanceLost):
            self._lost.append(instance.id)
            if len(self._lost) > _MAX_LOST:
                self._storage.end(self._lost.popleft(), acknowledged=True)
        self.report(event)


def _share_gpus(one: WorkerInstance, other: WorkerInstance) -> bool:
    return not set(one.gpu_indices).isdisjoint(other.gpu_indices)
