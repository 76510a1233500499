"""What is lost, and what that means for everything that counted on it."""

from sllmcore.cluster.instance import RESERVED, Instance
from sllmcore.cluster.state import ClusterState
from sllmcore.cluster.ticket import STOPPING
from sllmcore.controller.launcher import Launcher
from sllmcore.controller.moves import Moves
from sllmcore.controller.pending import PendingQueue
from sllmcore.controller.tickets import Tickets


class Losses:
    """Requests of what is lost start again; moves from or to it end; promises are taken back."""

    def __init__(
        self,
        cluster: ClusterState,
        launcher: Launcher,
        moves: Moves,
        tickets: Tickets,
        pending: PendingQueue,
    ) -> None:
        self._cluster = cluster
        self._launcher = launcher
        self._moves = moves
        self._tickets = tickets
        self._pending = pending

    def load_failed(
        self, instance_id: str, reason: str, now_s: float, max_load_failures: int
    ) -> None:
        """An instance did not come up; who has waited for too many such is rejected."""
        instance = self._cluster.instances.get(instance_id)
        if instance is None:
            return
        for request_id in list(instance.requests):
            ticket = self._cluster.tickets[request_id]
            if ticket.instance is not instance:
                continue
            ticket.num_load_failures += 1
            if ticket.num_load_failures >= max_load_failures:
                self._tickets.forget(ticket)
                self._tickets.reject(
                    request_id, f"{ticket.request.model} cannot be loaded: {reason}"
                )
        self.instance_lost(instance_id, now_s)

    def instance_lost(self, instance_id: str, now_s: float) -> None:
        instance = self._cluster.instances.get(instance_id)
        if instance is not None:
            self._evacuate(instance, now_s)
            self._launcher.forget(instance, now_s)
            self._moves.touched.pop(instance_id, None)

    def server_lost(self, server_id: str, now_s: float) -> None:
        server = self._cluster.servers.get(server_id)
        if server is None:
            return
        for instance in list(server.instances.values()):
            self._evacuate(instance, now_s)
        for instance_id in server.instances:
            self._moves.touched.pop(instance_id, None)
        self._launcher.lose_server(server)
        for ticket in self._pending.parked(server_id):
            self._tickets.requeue(ticket)

    def server_draining(self, server_id: str) -> None:
        """Whoever waits for GPUs there, claimed or not, must look elsewhere."""
        server = self._cluster.servers.get(server_id)
        if server is not None:
            for instance in list(server.instances.values()):
                if instance.state is RESERVED:
                    self.dissolve(instance)
            for ticket in self._pending.parked(server_id):
                self._tickets.requeue(ticket)

    def migration_failed(self, move_id: str, now_s: float) -> None:
        source = self._moves.failed(move_id, now_s)
        if source is not None:
            self._stuck(source)

    def dissolve(self, claimant: Instance) -> None:
        """A reserved instance will not come to be: its requests wait again, its victims stay."""
        victims = [self._cluster.instances[i] for i in claimant.awaits]
        for request_id in list(claimant.requests):
            ticket = self._cluster.tickets[request_id]
            self._tickets.unbind(ticket)
            self._tickets.requeue(ticket)
        self._moves.touched.pop(claimant.id, None)
        self._cluster.remove_instance(claimant)
        self._moves.call_off(victims)

    def _stuck(self, source: Instance) -> None:
        """An instance cannot leave after all: whoever counts on its GPUs must look elsewhere."""
        claimants = self._cluster.claimants_of(source)
        for claimant in claimants:
            self.dissolve(claimant)
        if not claimants:
            self._moves.call_off([source])

    def _evacuate(self, instance: Instance, now_s: float) -> None:
        """Nothing runs on this instance any more: its requests start again, moves end."""
        for source in self._moves.destination_lost(instance, now_s):
            self._stuck(source)
        for request_id in list(instance.requests):
            ticket = self._cluster.tickets.get(request_id)
            if ticket is None or ticket.instance is not instance:
                continue
            over = ticket.state is STOPPING and not ticket.requeue
            self._moves.source_ended(ticket)
            self._tickets.unbind(ticket)
            if over:
                self._cluster.close_ticket(request_id)
            else:
                self._tickets.requeue(ticket)
