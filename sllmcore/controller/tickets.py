"""Requests from arrival to end: where each of them stands, and what an engine's answer means."""

from sllmcore.cluster.instance import Instance
from sllmcore.cluster.state import ClusterState
from sllmcore.cluster.ticket import BOUND, MOVING, RUNNING, STOPPING, WAITING, Ticket
from sllmcore.commands import Infer, Reject
from sllmcore.controller.membership import Membership
from sllmcore.controller.moves import Moves
from sllmcore.controller.outbox import Outbox
from sllmcore.controller.pending import PendingQueue
from sllmcore.errors import ControlError
from sllmcore.events import InferenceFinished
from sllmcore.protocols import MigrationTimePredictor
from sllmcore.types import DRAM, Request


class Tickets:
    """The only writer of tickets, but for their moves."""

    def __init__(
        self,
        cluster: ClusterState,
        pending: PendingQueue,
        membership: Membership,
        moves: Moves,
        predictor: MigrationTimePredictor,
        outbox: Outbox,
    ) -> None:
        self._cluster = cluster
        self._pending = pending
        self._membership = membership
        self._moves = moves
        self._predictor = predictor
        self._outbox = outbox
        self.requeued: list[Ticket] = []  # they had been placed and wait for a decision again

    def open(self, request: Request) -> Ticket | None:
        """Take in a request; None: it was rejected."""
        if request.id in self._cluster.tickets:
            raise ControlError(f"request {request.id} has arrived already")
        self._cluster.num_arrivals += 1
        if not self._membership.serves(request.model):
            self.reject(request.id, f"model {request.model} is not deployed")
            return None
        ticket = Ticket(request, self._cluster.num_arrivals)
        self._cluster.open_ticket(ticket)
        return ticket

    def reject(self, request_id: str, reason: str) -> None:
        self._outbox.add(Reject(self._outbox.next_id(), request_id, reason))

    def forget(self, ticket: Ticket) -> None:
        """A request that does not run is over."""
        if ticket.state is BOUND:
            self.unbind(ticket)
        else:
            self._pending.remove(ticket)
        self._cluster.close_ticket(ticket.request.id)

    def requeue(self, ticket: Ticket) -> None:
        """A request lost its instance: it waits for a decision again, in its old place."""
        ticket.state, ticket.instance = WAITING, None
        if not self._membership.serves(ticket.request.model):
            self._cluster.close_ticket(ticket.request.id)
            self.reject(ticket.request.id, f"model {ticket.request.model} is not deployed")
            return
        self._pending.add(ticket, self._cluster.checkpoints[ticket.request.model].num_gpus)
        self.requeued.append(ticket)

    def bind(self, ticket: Ticket, instance: Instance, now_s: float) -> None:
        self._pending.remove(ticket)
        self._cluster.bind(ticket.request.id, instance)
        ticket.instance = instance
        if instance.ready:
            self.infer(ticket, instance, now_s)
        else:
            ticket.state = BOUND

    def infer(self, ticket: Ticket, instance: Instance, now_s: float) -> None:
        ticket.state, ticket.deadline_at_s = RUNNING, None
        ticket.attempt += 1
        ticket.running_since_s = now_s
        server = self._cluster.servers[instance.server_id]
        server.caches[DRAM].touch(instance.model)
        self._outbox.add(
            Infer(self._outbox.next_id(), ticket.request.id, instance.id, ticket.attempt)
        )

    def cancel(self, request_id: str) -> None:
        ticket = self._cluster.tickets.get(request_id)
        if ticket is None:
            return
        if ticket.state is STOPPING:
            ticket.requeue = False
        elif ticket.state in (RUNNING, MOVING):
            ticket.requeue = False
            self._moves.stop(ticket)
        else:
            self.forget(ticket)

    def finished(self, event: InferenceFinished, now_s: float) -> None:
        ticket = self._running(event.request_id, event.instance_id)
        if ticket is None:
            return
        decode_s = now_s - event.first_token_at_s
        self._predictor.observe_decode(ticket.request.model, event.output_tokens, decode_s)
        self._end(ticket)

    def failed(self, request_id: str, instance_id: str, reason: str) -> None:
        ticket = self._running(request_id, instance_id)
        if ticket is None:
            return
        has_left = ticket.state is STOPPING and not ticket.requeue
        self._end(ticket)
        if not has_left:
            self.reject(request_id, reason)

    def stopped(self, request_id: str, instance_id: str) -> None:
        ticket = self._running(request_id, instance_id)
        if ticket is None:
            return
        if not ticket.requeue:
            self._end(ticket)
            return
        self._moves.source_ended(ticket)
        self.unbind(ticket)
        ticket.num_preemptions += 1
        self.requeue(ticket)

    def _end(self, ticket: Ticket) -> None:
        self._moves.source_ended(ticket)
        self.unbind(ticket)
        self._cluster.close_ticket(ticket.request.id)

    def unbind(self, ticket: Ticket) -> None:
        instance = ticket.instance
        if instance is None:
            raise ControlError(f"{ticket.request.id} is bound to no instance")
        ticket.instance = None
        self._cluster.unbind(ticket.request.id, instance)
        self._moves.touched[instance.id] = instance

    def _running(self, request_id: str, instance_id: str) -> Ticket | None:
        """The ticket that an engine's answer is about; None if it has been let go."""
        ticket = self._cluster.tickets.get(request_id)
        if ticket is None or ticket.instance is None or ticket.instance.id != instance_id:
            return None
        return ticket
