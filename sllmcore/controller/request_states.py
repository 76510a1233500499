"""Transitions of requests from arrival to end; `cluster.request_state` has their table."""

from sllmcore.cluster.instance import Instance
from sllmcore.cluster.request_state import (
    BOUND,
    MIGRATING,
    RUNNING,
    STOPPING,
    WAITING,
    RequestState,
)
from sllmcore.cluster.state import ClusterState
from sllmcore.commands import RejectRequest, StartRequest
from sllmcore.controller.membership import Membership
from sllmcore.controller.migrations import Migrations
from sllmcore.controller.outbox import CommandOutbox
from sllmcore.controller.pending import PendingQueue
from sllmcore.errors import ControlError
from sllmcore.events import InferenceFinished
from sllmcore.protocols import MigrationTimePredictor
from sllmcore.types import DRAM, Request


class RequestStates:
    """The only writer of `RequestState` objects, except for their migrations and deadlines."""

    def __init__(
        self,
        cluster: ClusterState,
        pending: PendingQueue,
        membership: Membership,
        migrations: Migrations,
        predictor: MigrationTimePredictor,
        outbox: CommandOutbox,
    ) -> None:
        self._cluster = cluster
        self._pending = pending
        self._membership = membership
        self._migrations = migrations
        self._predictor = predictor
        self._outbox = outbox
        self._worklist = cluster.worklist

    def open(self, request: Request) -> RequestState | None:
        """Return the state of a request that has arrived; None if it was rejected.

        Raises:
            ControlError: The id is in use.
        """
        if request.id in self._cluster.request_states:
            raise ControlError(f"request {request.id} has arrived already; ids must be unique")
        self._cluster.num_arrivals += 1
        if not self._membership.serves(request.model):
            self.reject(request.id, f"model {request.model} is not deployed")
            return None
        request_state = RequestState(request, self._cluster.num_arrivals)
        self._cluster.open_request(request_state)
        return request_state

    def reject(self, request_id: str, reason: str) -> None:
        """Reject a request that is closed or was never opened."""
        self._outbox.add(RejectRequest(self._outbox.next_id(), request_id, reason))

    def close_waiting(self, request_state: RequestState) -> None:
        """Close a request that waits or is bound."""
        if request_state.phase is BOUND:
            self.unbind(request_state)
        else:
            self._pending.remove(request_state)
        self._cluster.close_request(request_state.request.id)

    def requeue(self, request_state: RequestState) -> None:
        """Let a request that lost its instance wait again; reject it if its model was deleted."""
        request_state.phase, request_state.instance = WAITING, None
        if not self._membership.serves(request_state.request.model):
            self._cluster.close_request(request_state.request.id)
            self.reject(
                request_state.request.id, f"model {request_state.request.model} is not deployed"
            )
            return
        self._pending.add(
            request_state, self._cluster.checkpoints[request_state.request.model].num_gpus
        )
        self._worklist.requests.append(request_state)

    def bind(self, request_state: RequestState, instance: Instance, now_s: float) -> None:
        """Give a waiting request a slot of an instance; start it if the instance is ready."""
        self._pending.remove(request_state)
        self._cluster.bind(request_state.request.id, instance)
        request_state.instance = instance
        if instance.ready:
            self.start(request_state, instance, now_s)
        else:
            request_state.phase = BOUND

    def start(self, request_state: RequestState, instance: Instance, now_s: float) -> None:
        """Start a request on its instance, which is ready."""
        request_state.phase, request_state.deadline_at_s = RUNNING, None
        request_state.attempt += 1
        request_state.running_since_s = now_s
        server = self._cluster.servers[instance.server_id]
        server.caches[DRAM].touch(instance.model)
        self._outbox.add(
            StartRequest(
                self._outbox.next_id(), request_state.request.id, instance.id, request_state.attempt
            )
        )

    def cancel(self, request_id: str) -> None:
        """Close or stop a request, because its client left."""
        request_state = self._cluster.request_states.get(request_id)
        if request_state is None:
            return
        if request_state.phase is STOPPING:
            request_state.runs_again = False
        elif request_state.phase in (RUNNING, MIGRATING):
            request_state.runs_again = False
            self._migrations.stop(request_state)
        else:
            self.close_waiting(request_state)

    def handle_finished(self, event: InferenceFinished, now_s: float) -> None:
        """Close a request that completed and learn from its duration."""
        request_state = self._find(event.request_id, event.instance_id)
        if request_state is None:
            return
        decode_s = now_s - event.first_token_at_s
        self._predictor.observe_decode(request_state.request.model, event.output_tokens, decode_s)
        self._close_running(request_state)

    def handle_failed(self, request_id: str, instance_id: str, reason: str) -> None:
        """Close a request that failed; reject it unless its client has left."""
        request_state = self._find(request_id, instance_id)
        if request_state is None:
            return
        has_left = request_state.phase is STOPPING and not request_state.runs_again
        self._close_running(request_state)
        if not has_left:
            self.reject(request_id, reason)

    def handle_stopped(self, request_id: str, instance_id: str) -> None:
        """Close a stopped request, or let it wait again if it was preempted."""
        request_state = self._find(request_id, instance_id)
        if request_state is None:
            return
        if not request_state.runs_again:
            self._close_running(request_state)
            return
        self._migrations.cancel(request_state)
        self.unbind(request_state)
        request_state.num_preemptions += 1
        self.requeue(request_state)

    def _close_running(self, request_state: RequestState) -> None:
        self._migrations.cancel(request_state)
        self.unbind(request_state)
        self._cluster.close_request(request_state.request.id)

    def unbind(self, request_state: RequestState) -> None:
        """Free the slot of a request.

        Raises:
            ControlError: The request is bound to no instance.
        """
        instance = request_state.instance
        if instance is None:
            raise ControlError(f"{request_state.request.id} is bound to no instance")
        request_state.instance = None
        self._cluster.unbind(request_state.request.id, instance)
        self._worklist.instances[instance.id] = instance

    def _find(self, request_id: str, instance_id: str) -> RequestState | None:
        """Return the request if it is bound to that instance, else None."""
        request_state = self._cluster.request_states.get(request_id)
        if (
            request_state is None
            or request_state.instance is None
            or request_state.instance.id != instance_id
        ):
            return None
        return request_state
