"""Inferences that make room for others: by migration, step by step, or by preemption.

The seven steps of a migration, and who takes them:
 1. the destination loads the victim's model          `begin` (no load if an instance is ready)
 2. it is loaded: `Resume` goes out                   `resume`
 3-5. tokens move while the source goes on            the driver
 6. the source is unloaded, the newcomer loads        `finished`, then the vacated instance
 7. the stream comes from the destination             the driver, before `MigrationFinished`
Any of them can be overtaken: the victim finishes or is cancelled first (`source_ended`), the
destination or the source fails (`failed`, `source_ended`), the newcomer leaves (`call_off`). One
that fails may be tried again at once; after more in a row the inference stays where it is for a
while, for twice as long each time.
"""

from collections.abc import Iterable

from sllmcore.cluster.instance import Instance
from sllmcore.cluster.move import Move
from sllmcore.cluster.state import ClusterState
from sllmcore.cluster.ticket import MOVING, RUNNING, STOPPING, Ticket
from sllmcore.commands import AbortResume, Resume, Stop
from sllmcore.controller.launcher import Launcher
from sllmcore.controller.outbox import Outbox
from sllmcore.controller.timers import Timers
from sllmcore.errors import ControlError
from sllmcore.types import MigrationPlan

REST_S = 1.0  # after two failures in a row: longer than a network takes to lose a few packets
MAX_DOUBLINGS = 6  # so a network that is down is tried about once a minute


class Moves:
    """Facts about inferences on the move. Instances whose slots it frees go into `touched`."""

    def __init__(
        self, cluster: ClusterState, launcher: Launcher, timers: Timers, outbox: Outbox
    ) -> None:
        self._cluster = cluster
        self._launcher = launcher
        self._timers = timers
        self._outbox = outbox
        self._moves: dict[str, Move] = {}
        self._num_begun = 0
        self.touched: dict[str, Instance] = {}  # instances to look at again, by id

    def begin(self, plan: MigrationPlan, now_s: float) -> Instance:
        """Step 1, and 2 where the destination is ready. Returns the instance that will leave."""
        victim = self._cluster.instances[plan.victim_id]
        destination = self._destination(plan, victim, now_s)
        self._cluster.set_leaving(victim, True)
        for request_id in victim.requests:
            ticket = self._cluster.tickets[request_id]
            if not ticket.can_move:
                raise ControlError(f"{request_id} on {victim.id} cannot be moved")
            self._num_begun += 1
            move = Move(f"m{self._num_begun}", request_id, victim, destination, plan.resume_s)
            self._cluster.expect(move.id, destination)
            self._moves[move.id] = ticket.move = move
        if destination.ready:
            self.resume(destination)
        return victim

    def _destination(self, plan: MigrationPlan, victim: Instance, now_s: float) -> Instance:
        if plan.placement is not None:
            server_id, gpu_indices = plan.placement.server_id, plan.placement.gpu_indices
            return self._launcher.launch(victim.model, server_id, gpu_indices, (), now_s)
        if plan.instance_id is None:
            raise ControlError(f"a migration plan without destination: {plan}")
        return self._cluster.instances[plan.instance_id]

    def resume(self, destination: Instance) -> None:
        """Step 2: the destination can take over those who are to move in."""
        for move_id in destination.incoming:
            move = self._moves[move_id]
            if move.resumed:
                continue
            move.resumed = True
            self._cluster.tickets[move.request_id].state = MOVING
            self._outbox.add(
                Resume(
                    self._outbox.next_id(),
                    move.id,
                    move.request_id,
                    move.source.id,
                    destination.id,
                    move.expected_s,
                )
            )

    def preempt(self, victim: Instance) -> None:
        """Stop all that runs on an instance, to be run again elsewhere."""
        self._cluster.set_leaving(victim, True)
        for request_id in victim.requests:
            ticket = self._cluster.tickets[request_id]
            if not ticket.can_move:
                raise ControlError(f"{request_id} on {victim.id} cannot be stopped")
            ticket.requeue = True
            self.stop(ticket)

    def stop(self, ticket: Ticket) -> None:
        """Break off a running inference, wherever it is in its move."""
        if ticket.instance is None:
            raise ControlError(f"{ticket.request.id} does not run")
        self.source_ended(ticket)
        ticket.state = STOPPING
        self._outbox.add(Stop(self._outbox.next_id(), ticket.request.id, ticket.instance.id))

    def finished(self, move_id: str) -> Ticket | None:
        """Step 6: the request runs at its destination; the source has one inference less.

        Returns its ticket, None for a move that has been let go.
        """
        move = self._moves.pop(move_id, None)
        if move is None:
            return None
        ticket = self._cluster.tickets.get(move.request_id)
        if ticket is None or ticket.instance is not move.source:
            raise ControlError(f"{move.request_id} moved to {move.destination.id} after its end")
        self._cluster.unbind(move.request_id, move.source)
        self._cluster.arrive(move.id, move.request_id, move.destination)
        ticket.instance, ticket.move = move.destination, None
        ticket.num_failed_moves = 0
        self.touched[move.source.id] = move.source
        if ticket.state is STOPPING:  # it was still on its way when told to stop
            stop_id = self._outbox.next_id()
            self._outbox.add(Stop(stop_id, move.request_id, move.destination.id))
        else:
            ticket.state = RUNNING
        return ticket

    def failed(self, move_id: str, now_s: float) -> Instance | None:
        """The destination is clean again. Returns the source if it goes on and so cannot leave."""
        move = self._moves.get(move_id)
        return None if move is None else self._broken_off(move, now_s)

    def source_ended(self, ticket: Ticket) -> None:
        """The inference ends where it is, or with it: it will not move."""
        move = ticket.move
        if move is None:
            return
        if not move.resumed:
            self._give_up(move)
            return
        ticket.move = None
        move.aborted = True
        command_id = self._outbox.next_id()
        self._outbox.add(AbortResume(command_id, move.id, move.request_id, move.destination.id))

    def destination_lost(self, destination: Instance, now_s: float) -> list[Instance]:
        """Nobody can move in. Returns the instances that therefore cannot leave."""
        moves = [self._moves[move_id] for move_id in destination.incoming]
        sources = [self._broken_off(move, now_s) for move in moves]
        return list({source.id: source for source in sources if source is not None}.values())

    def _broken_off(self, move: Move, now_s: float) -> Instance | None:
        """The source, if the inference goes on there, maybe to stay before it is moved again."""
        self._give_up(move)
        if move.aborted:
            return None
        ticket = self._cluster.tickets[move.request_id]
        ticket.num_failed_moves += 1
        if ticket.num_failed_moves > 1:
            rest_s = REST_S * 2 ** min(ticket.num_failed_moves - 2, MAX_DOUBLINGS)
            self._timers.set_rest(ticket, now_s + rest_s)
        return move.source

    def call_off(self, victims: Iterable[Instance]) -> None:
        """Nobody needs the room of these instances any more: those not under way yet stay."""
        for victim in victims:
            tickets = [self._cluster.tickets[request_id] for request_id in victim.requests]
            for ticket in tickets:
                if ticket.state is RUNNING:
                    self.source_ended(ticket)
            if all(ticket.can_move for ticket in tickets):
                self._cluster.set_leaving(victim, False)
            self.touched[victim.id] = victim

    def _give_up(self, move: Move) -> None:
        """Free the slot at the destination; the inference, if it goes on, stays where it is."""
        del self._moves[move.id]
        self._cluster.dismiss(move.id, move.destination)
        self.touched[move.destination.id] = move.destination
        ticket = self._cluster.tickets.get(move.request_id)
        if ticket is not None and ticket.move is move:
            ticket.move = None
            if ticket.state is MOVING:
                ticket.state = RUNNING
