"""Inferences that make room for others: by migration, step by step, or by preemption.

The seven steps of a migration, and who takes them:
 1. the destination loads the victim's model          `begin` (no load if an instance is ready)
 2. it is loaded: `StartMigration` goes out                   `resume`
 3-5. tokens move while the source goes on            the driver
 6. the source is unloaded, the newcomer loads        `finished`, then the vacated instance
 7. the stream comes from the destination             the driver, before `MigrationFinished`
Any of them can be overtaken: the victim finishes or is cancelled first (`cancel`), the
destination or the source fails (`failed`, `cancel`), the newcomer leaves (`cancel_reclaim`). One
that fails may be tried again at once; after more in a row the inference stays where it is for a
while, for twice as long each time.
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

BACKOFF_S = 1.0  # after two failures in a row: longer than a network takes to lose a few packets
MAX_DOUBLINGS = 6  # so a network that is down is tried about once a minute


class Migrations:
    """Facts about inferences on the move."""

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
        """Step 1, and 2 where the destination is ready. Returns the instance that will leave."""
        victim = self._cluster.instances[plan.victim_id]
        destination = self._destination(plan, victim, now_s)
        self._cluster.set_leaving(victim, True)
        for request_id in victim.requests:
            request_state = self._cluster.request_states[request_id]
            if not request_state.can_migrate:
                raise ControlError(f"{request_id} on {victim.id} cannot be moved")
            self._num_begun += 1
            migration = Migration(
                f"m{self._num_begun}", request_id, victim, destination, plan.resume_s
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
            raise ControlError(f"a migration plan without destination: {plan}")
        return self._cluster.instances[plan.instance_id]

    def start_ready(self, destination: Instance) -> None:
        """Step 2: the destination can take over those who are to move in."""
        for move_id in destination.incoming:
            migration = self._migrations[move_id]
            if migration.started:
                continue
            migration.started = True
            self._cluster.request_states[migration.request_id].phase = MIGRATING
            self._outbox.add(
                StartMigration(
                    self._outbox.next_id(),
                    migration.id,
                    migration.request_id,
                    migration.source.id,
                    destination.id,
                    migration.expected_s,
                )
            )

    def preempt(self, victim: Instance) -> None:
        """Stop all that runs on an instance, to be run again elsewhere."""
        self._cluster.set_leaving(victim, True)
        for request_id in victim.requests:
            request_state = self._cluster.request_states[request_id]
            if not request_state.can_migrate:
                raise ControlError(f"{request_id} on {victim.id} cannot be stopped")
            request_state.runs_again = True
            self.stop(request_state)

    def stop(self, request_state: RequestState) -> None:
        """Break off a running inference, wherever it is in its move."""
        if request_state.instance is None:
            raise ControlError(f"{request_state.request.id} does not run")
        self.cancel(request_state)
        request_state.phase = STOPPING
        self._outbox.add(
            StopRequest(self._outbox.next_id(), request_state.request.id, request_state.instance.id)
        )

    def handle_finished(self, move_id: str) -> RequestState | None:
        """Step 6: the request runs at its destination; the source has one inference less.

        Returns its ticket, None for a move that has been let go.
        """
        migration = self._migrations.pop(move_id, None)
        if migration is None:
            return None
        request_state = self._cluster.request_states.get(migration.request_id)
        if request_state is None or request_state.instance is not migration.source:
            raise ControlError(
                f"{migration.request_id} moved to {migration.destination.id} after its end"
            )
        self._cluster.unbind(migration.request_id, migration.source)
        self._cluster.fill_reserved_slot(migration.id, migration.request_id, migration.destination)
        request_state.instance, request_state.migration = migration.destination, None
        request_state.num_failed_migrations = 0
        self._worklist.instances[migration.source.id] = migration.source
        if request_state.phase is STOPPING:  # it was still on its way when told to stop
            stop_id = self._outbox.next_id()
            self._outbox.add(StopRequest(stop_id, migration.request_id, migration.destination.id))
        else:
            request_state.phase = RUNNING
        return request_state

    def handle_failed(self, move_id: str, now_s: float) -> Instance | None:
        """The destination is clean again. Returns the source if it goes on and so cannot leave."""
        migration = self._migrations.get(move_id)
        return None if migration is None else self._fail(migration, now_s)

    def cancel(self, request_state: RequestState) -> None:
        """The inference ends where it is, or with it: it will not move."""
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
        """Nobody can move in. Returns the instances that therefore cannot leave."""
        migrations = [self._migrations[move_id] for move_id in destination.incoming]
        sources = [self._fail(migration, now_s) for migration in migrations]
        return list({source.id: source for source in sources if source is not None}.values())

    def _fail(self, migration: Migration, now_s: float) -> Instance | None:
        """The source, if the inference goes on there, maybe to stay before it is moved again."""
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
        """Nobody needs the room of these instances any more: those not under way yet stay."""
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
        """Free the slot at the destination; the inference, if it goes on, stays where it is."""
        del self._migrations[migration.id]
        self._cluster.release_slot(migration.id, migration.destination)
        self._worklist.instances[migration.destination.id] = migration.destination
        request_state = self._cluster.request_states.get(migration.request_id)
        if request_state is not None and request_state.migration is migration:
            request_state.migration = None
            if request_state.phase is MIGRATING:
                request_state.phase = RUNNING
