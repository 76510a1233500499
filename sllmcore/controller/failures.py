"""Failures: lost instances and servers, failed loads and migrations, and their consequences."""

from sllmcore.cluster.instance import RESERVED, Instance
from sllmcore.cluster.request_state import STOPPING
from sllmcore.cluster.state import ClusterState
from sllmcore.controller.launcher import Launcher
from sllmcore.controller.migrations import Migrations
from sllmcore.controller.pending import PendingQueue
from sllmcore.controller.request_states import RequestStates


class Failures:
    """Handlers of failures: requests wait again, migrations end, reservations are cancelled."""

    def __init__(
        self,
        cluster: ClusterState,
        launcher: Launcher,
        migrations: Migrations,
        request_states: RequestStates,
        pending: PendingQueue,
    ) -> None:
        self._cluster = cluster
        self._launcher = launcher
        self._migrations = migrations
        self._request_states = request_states
        self._pending = pending

    def handle_load_failed(
        self, instance_id: str, reason: str, now_s: float, max_load_failures: int
    ) -> None:
        """Remove an instance that failed to load.

        Its requests wait again. Those with `max_load_failures` failed loads are rejected.
        """
        instance = self._cluster.instances.get(instance_id)
        if instance is None:
            return
        for request_id in list(instance.requests):
            request_state = self._cluster.request_states[request_id]
            if request_state.instance is not instance:
                continue
            request_state.num_load_failures += 1
            if request_state.num_load_failures >= max_load_failures:
                self._request_states.close_waiting(request_state)
                self._request_states.reject(
                    request_id, f"{request_state.request.model} cannot be loaded: {reason}"
                )
        self.handle_instance_lost(instance_id, now_s)

    def handle_instance_lost(self, instance_id: str, now_s: float) -> None:
        """Remove an instance that crashed. Its requests wait again."""
        instance = self._cluster.instances.get(instance_id)
        if instance is not None:
            self._requeue_all(instance, now_s)
            self._launcher.remove(instance, now_s)
            self._cluster.worklist.instances.pop(instance_id, None)

    def handle_server_lost(self, server_id: str, now_s: float) -> None:
        """Remove a server and its instances. Their requests, and those parked there, wait again."""
        server = self._cluster.servers.get(server_id)
        if server is None:
            return
        for instance in list(server.instances.values()):
            self._requeue_all(instance, now_s)
        for instance_id in server.instances:
            self._cluster.worklist.instances.pop(instance_id, None)
        self._launcher.remove_server(server)
        for request_state in self._pending.parked(server_id):
            self._request_states.requeue(request_state)

    def handle_server_draining(self, server_id: str) -> None:
        """Let the requests that wait for GPUs of this server wait for a new decision."""
        server = self._cluster.servers.get(server_id)
        if server is not None:
            for instance in list(server.instances.values()):
                if instance.state is RESERVED:
                    self.cancel_reservation(instance)
            for request_state in self._pending.parked(server_id):
                self._request_states.requeue(request_state)

    def handle_migration_failed(self, move_id: str, now_s: float) -> None:
        """End a failed migration. Its request stays at the source."""
        source = self._migrations.handle_failed(move_id, now_s)
        if source is not None:
            self._keep_source(source)

    def cancel_reservation(self, next_occupant: Instance) -> None:
        """Remove a reserved instance. Its requests wait again, its victims keep their GPUs."""
        victims = [self._cluster.instances[i] for i in next_occupant.waits_for]
        for request_id in list(next_occupant.requests):
            request_state = self._cluster.request_states[request_id]
            self._request_states.unbind(request_state)
            self._request_states.requeue(request_state)
        self._cluster.worklist.instances.pop(next_occupant.id, None)
        self._cluster.remove_instance(next_occupant)
        self._migrations.cancel_reclaim(victims)

    def _keep_source(self, source: Instance) -> None:
        """Keep an instance that was to leave. The instances reserved on its GPUs are removed."""
        next_occupants = self._cluster.next_occupants_of(source)
        for next_occupant in next_occupants:
            self.cancel_reservation(next_occupant)
        if not next_occupants:
            self._migrations.cancel_reclaim([source])

    def _requeue_all(self, instance: Instance, now_s: float) -> None:
        """End all requests and migrations of an instance that is lost; its requests wait again."""
        for source in self._migrations.handle_destination_lost(instance, now_s):
            self._keep_source(source)
        for request_id in list(instance.requests):
            request_state = self._cluster.request_states.get(request_id)
            if request_state is None or request_state.instance is not instance:
                continue
            over = request_state.phase is STOPPING and not request_state.runs_again
            self._migrations.cancel(request_state)
            self._request_states.unbind(request_state)
            if over:
                self._cluster.close_request(request_id)
            else:
                self._request_states.requeue(request_state)
