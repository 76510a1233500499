"""Migrations and preemptions: requests that leave their GPUs to another model.

The seven steps of a migration (ServerlessLLM, section 5) and the code that performs them:
 1. The destination loads the victim's model, unless an instance is ready.  `begin`
 2. The destination is ready: `StartMigration`.                             `start_ready`
 3-5. The context moves to the destination while the source goes on.        the driver
 6. The source is stopped and the next occupant of its GPUs loads.          `handle_finished`
 7. The stream comes from the destination.                                  the driver

Every step may be overtaken: the request finishes or is cancelled, or the source is lost (`cancel`);
the destination fails (`handle_failed`, `handle_destination_lost`); the request that needed the GPUs
is cancelled (`cancel_reclaim`). After one failed migration a request may be migrated again at once.
After n > 1 failures in a row it is not migrated for `BACKOFF_S * 2^(n - 2)`.
"""

from collections.abc import Iterable

from sllmcore.cluster.instance import Instance
from sllmcore.cluster.migration import Migration
from sllmcore.cluster.request_state import MIGRATING, RUNNING, STOPPING, RequestState
from sllmcore.cluster.state import ClusterState
from sllmcore.commands import AbortMigration, StartMigration, StopRequest
from sllmcore.controller.launcher import Launcher
from sllmcore.controller.outbox import CommandOutbox
from sllmcore.controller.timers import Timers
from sllmcore.errors import ControlError
from sllmcore.types import MigrationPlan

BACKOFF_S = 1.0  # longer than a network takes to recover from a few lost packets
MAX_DOUBLINGS = 6  # so a network that is down is retried about once a minute


class Migrations:
    """The planned and started migrations, and preemptions."""

    def __init__(
        self, cluster: ClusterState, launcher: Launcher, timers: Timers, outbox: CommandOutbox
    ) -> None:
        self._cluster = cluster
        self._launcher = launcher
        self._timers = timers
        self._outbox = outbox
        self._migrations: dict[str, Migration] = {}
        self._num_begun = 0
        self._worklist = cluster.worklist

    def begin(self, plan: MigrationPlan, now_s: float) -> Instance:
        """Begin to migrate all requests of an instance. Return that instance.

        Raises:
            ControlError: The plan has no destination, or a request cannot migrate.
        """
        victim = self._cluster.instances[plan.victim_id]
        destination = self._destination(plan, victim, now_s)
        self._cluster.set_leaving(victim, True)
        for request_id in victim.requests:
            request_state = self._cluster.request_states[request_id]
            if not request_state.can_migrate:
                raise ControlError(f"{request_id} on {victim.id} cannot be migrated")
            self._num_begun += 1
            migration = Migration(
                move_id=f"m{self._num_begun}",
                request_id=request_id,
                source=victim,
                destination=destination,
                expected_s=plan.resume_s,
            )
            self._cluster.reserve_slot(migration.id, destination)
            self._migrations[migration.id] = request_state.migration = migration
        if destination.ready:
            self.start_ready(destination)
        return victim

    def _destination(self, plan: MigrationPlan, victim: Instance, now_s: float) -> Instance:
        if plan.placement is not None:
            server_id, gpu_indices = plan.placement.server_id, plan.placement.gpu_indices
            return self._launcher.launch(victim.model, server_id, gpu_indices, (), now_s)
        if plan.instance_id is None:
            raise ControlError(f"a migration plan needs an instance_id or a placement, got {plan}")
        return self._cluster.instances[plan.instance_id]

    def start_ready(self, destination: Instance) -> None:
        """Start the planned migrations to a destination that is ready."""
        for move_id in destination.incoming:
            migration = self._migrations[move_id]
            if migration.started:
                continue
            migration.started = True
            self._cluster.request_states[migration.request_id].phase = MIGRATING
            self._outbox.add(
                StartMigration(
                    id=self._outbox.next_id(),
                    move_id=migration.id,
                    request_id=migration.request_id,
                    source_id=migration.source.id,
                    destination_id=destination.id,
                    expected_s=migration.expected_s,
                )
            )

    def preempt(self, victim: Instance) -> None:
        """Stop all requests of an instance; they wait again when they have stopped.

        Raises:
            ControlError: A request is being migrated or stopped already.
        """
        self._cluster.set_leaving(victim, True)
        for request_id in victim.requests:
            request_state = self._cluster.request_states[request_id]
            if not request_state.can_migrate:
                raise ControlError(f"{request_id} on {victim.id} cannot be stopped")
            request_state.runs_again = True
            self.stop(request_state)

    def stop(self, request_state: RequestState) -> None:
        """Stop a running request and abort its migration, if any.

        Raises:
            ControlError: The request does not run.
        """
        if request_state.instance is None:
            raise ControlError(f"{request_state.request.id} does not run")
        self.cancel(request_state)
        request_state.phase = STOPPING
        self._outbox.add(
            StopRequest(self._outbox.next_id(), request_state.request.id, request_state.instance.id)
        )

    def handle_finished(self, move_id: str) -> RequestState | None:
        """Move a request from its source to its destination.

        Returns the request; None if the migration was given up before.

        Raises:
            ControlError: The request has ended or left the source before.
        """
        migration = self._migrations.pop(move_id, None)
        if migration is None:
            return None
        request_state = self._cluster.request_states.get(migration.request_id)
        if request_state is None or request_state.instance is not migration.source:
            raise ControlError(
                f"{migration.request_id} migrated to {migration.destination.id} after its end"
            )
        self._cluster.unbind(migration.request_id, migration.source)
        self._cluster.fill_reserved_slot(migration.id, migration.request_id, migration.destination)
        request_state.instance, request_state.migration = migration.destination, None
        request_state.num_failed_migrations = 0
        self._worklist.instances[migration.source.id] = migration.source
        if request_state.phase is STOPPING:  # it was stopped while it migrated
            stop_id = self._outbox.next_id()
            self._outbox.add(StopRequest(stop_id, migration.request_id, migration.destination.id))
        else:
            request_state.phase = RUNNING
        return request_state

    def handle_failed(self, move_id: str, now_s: float) -> Instance | None:
        """End a failed migration. Return its source if the request goes on there, else None."""
        migration = self._migrations.get(move_id)
        return None if migration is None else self._fail(migration, now_s)

    def cancel(self, request_state: RequestState) -> None:
        """Cancel the migration of a request that ends, stops or loses its instance, if any."""
        migration = request_state.migration
        if migration is None:
            return
        if not migration.started:
            self._release(migration)
            return
        request_state.migration = None
        migration.aborted = True
        command_id = self._outbox.next_id()
        self._outbox.add(
            AbortMigration(command_id, migration.id, migration.request_id, migration.destination.id)
        )

    def handle_destination_lost(self, destination: Instance, now_s: float) -> list[Instance]:
        """End all migrations to a lost instance. Return the sources on which requests go on."""
        migrations = [self._migrations[move_id] for move_id in destination.incoming]
        sources = [self._fail(migration, now_s) for migration in migrations]
        return list({source.id: source for source in sources if source is not None}.values())

    def _fail(self, migration: Migration, now_s: float) -> Instance | None:
        """End a migration and start a back-off after repeated failures.

        Returns the source if the request goes on there, else None.
        """
        self._release(migration)
        if migration.aborted:
            return None
        request_state = self._cluster.request_states[migration.request_id]
        request_state.num_failed_migrations += 1
        if request_state.num_failed_migrations > 1:
            backoff_s = BACKOFF_S * 2 ** min(request_state.num_failed_migrations - 2, MAX_DOUBLINGS)
            self._timers.set_backoff(request_state, now_s + backoff_s)
        return migration.source

    def cancel_reclaim(self, victims: Iterable[Instance]) -> None:
        """Cancel the planned migrations from these instances, because their GPUs are not needed.

        Started migrations go on.
        """
        for victim in victims:
            request_states = [
                self._cluster.request_states[request_id] for request_id in victim.requests
            ]
            for request_state in request_states:
                if request_state.phase is RUNNING:
                    self.cancel(request_state)
            if all(request_state.can_migrate for request_state in request_states):
                self._cluster.set_leaving(victim, False)
            self._worklist.instances[victim.id] = victim

    def _release(self, migration: Migration) -> None:
        """Remove a migration and free its slot at the destination; the request does not move."""
        del self._migrations[migration.id]
        self._cluster.release_slot(migration.id, migration.destination)
        self._worklist.instances[migration.destination.id] = migration.destination
        request_state = self._cluster.request_states.get(migration.request_id)
        if request_state is not None and request_state.migration is migration:
            request_state.migration = None
            if request_state.phase is MIGRATING:
                request_state.phase = RUNNING
