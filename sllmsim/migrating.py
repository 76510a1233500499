"""Live migration as it really goes: rounds of tokens, until the destination has caught up.

Round by round the source sends the tokens that the destination has not got, the destination
recomputes their KV cache, and the source generates on. When few are missing, or rounds do not help
any more, the source stops; the client's pause lasts until the destination has the rest.
"""

from collections.abc import Callable

from sllmcore.commands import StartMigration
from sllmcore.events import MigrationFailed, MigrationFinished
from sllmcore.migration_rounds import MigrationRounds
from sllmsim.clock import SimClock
from sllmsim.engine import BatchEngine, SimSequence
from sllmsim.setup import MigrationSettings


class SimMigration:
    """One `StartMigration` under way."""

    __slots__ = (
        "began_at_s",
        "command",
        "destination",
        "done_tokens",
        "over",
        "paused_at_s",
        "rounds",
        "sent_tokens",
        "source",
        "start_tokens",
        "stream",
    )

    def __init__(
        self,
        command: StartMigration,
        source: BatchEngine,
        destination: BatchEngine,
        rounds: MigrationRounds,
        now_s: float,
    ) -> None:
        self.command = command
        self.source = source
        self.destination = destination
        self.began_at_s = now_s
        self.start_tokens = 0  # input and output tokens when the migration began
        self.done_tokens = 0  # recomputed at the destination
        self.sent_tokens = 0
        self.rounds = rounds
        self.stream: SimSequence | None = None  # in neither engine: the source has stopped
        self.paused_at_s = 0.0
        self.over = False


class Migrating:
    """Carries out `StartMigration` and `AbortResume`. `on_end` gets the event that answers it."""

    def __init__(
        self,
        clock: SimClock,
        settings: MigrationSettings,
        on_end: Callable[[MigrationFinished | MigrationFailed], None],
    ) -> None:
        self._clock = clock
        self._message_s = settings.message_s
        self._rounds = settings.rounds
        self._on_end = on_end
        self._migrations: dict[str, SimMigration] = {}  # by move id

    def begin(self, command: StartMigration, source: BatchEngine, destination: BatchEngine) -> None:
        """Send the first round."""
        rounds = MigrationRounds(self._rounds)
        migration = SimMigration(command, source, destination, rounds, self._clock.now)
        self._migrations[command.move_id] = migration
        migration.start_tokens = source.context_tokens(command.request_id)
        self._send(migration, migration.start_tokens)

    def abort(self, move_id: str, reason: str) -> None:
        """Clear the destination; a source that has stopped already goes on."""
        migration = self._migrations.get(move_id)
        if migration is not None:
            self._end_early(migration)
            command = migration.command
            self._on_end(
                MigrationFailed(command.move_id, command.request_id, command.destination_id, reason)
            )

    def destination_lost(self, instance_id: str) -> None:
        """Nothing answers: the controller knows from the loss."""
        for migration in list(self._migrations.values()):
            if migration.command.destination_id == instance_id:
                self._end_early(migration)

    def of_instance(self, instance_id: str) -> list[str]:
        """Moves from or to an instance."""
        return [
            move_id
            for move_id, migration in self._migrations.items()
            if instance_id in (migration.command.source_id, migration.command.destination_id)
        ]

    def in_flight(self, source_id: str) -> list[SimSequence]:
        """Streams between the engines: gone with a source that is lost now."""
        return [
            migration.stream
            for migration in self._migrations.values()
            if migration.command.source_id == source_id and migration.stream is not None
        ]

    def source_lost(self, instance_id: str) -> None:
        """The source cannot go on; the controller will ask for the destination to be cleared."""
        for migration in self._migrations.values():
            if migration.command.source_id == instance_id:
                migration.stream = None
                migration.over = True

    def _end_early(self, migration: SimMigration) -> None:
        del self._migrations[migration.command.move_id]
        migration.over = True
        if migration.stream is not None:
            migration.source.adopt(migration.stream)
            migration.stream = None

    def _send(self, migration: SimMigration, tokens: int) -> None:
        migration.sent_tokens = tokens

        def recompute(_: object) -> None:
            if not migration.over:
                migration.destination.recompute(
                    migration.done_tokens, tokens, lambda: self._recomputed(migration)
                )

        self._clock.call_in(self._message_s, recompute)

    def _recomputed(self, migration: SimMigration) -> None:
        """The destination has what was sent: send the gap, or let the source stop."""
        if migration.over:
            return
        migration.done_tokens += migration.sent_tokens
        if migration.stream is not None:
            self._switch(migration)
            return
        context_tokens = migration.source.context_tokens(migration.command.request_id)
        gap = context_tokens - migration.done_tokens
        if migration.rounds.end(gap):
            migration.source.take(
                migration.command.request_id, lambda stream: self._stopped(migration, stream)
            )
        else:
            self._send(migration, gap)

    def _stopped(self, migration: SimMigration, stream: SimSequence) -> None:
        """The source generates no more: the last tokens go over, the client waits."""
        if migration.over:
            migration.source.adopt(stream)
            return
        migration.stream = stream
        migration.paused_at_s = self._clock.now
        gap = stream.context_tokens - migration.done_tokens
        if gap > 0:
            self._send(migration, gap)
        else:
            self._clock.call_in(self._message_s, lambda _: self._switch(migration))

    def _switch(self, migration: SimMigration) -> None:
        if migration.over or migration.stream is None:
            return
        command, now_s = migration.command, self._clock.now
        del self._migrations[command.move_id]
        migration.over = True
        migration.destination.adopt(migration.stream)
        self._on_end(
            MigrationFinished(
                command.move_id,
                command.request_id,
                command.source_id,
                command.destination_id,
                migration.start_tokens,
                now_s - migration.began_at_s,
                now_s - migration.paused_at_s,
            )
        )
