"""Live migrations in the simulator: rounds of tokens until the destination has caught up.

In each round the source sends the tokens that the destination lacks, and continues to generate. By
its strategy, the destination recomputes their KV cache or receives a copy over the servers' network
links. `sllmcore.migration_rounds` decides after which round the source stops. The client's pause
lasts from then until the destination has the last tokens.
"""

from collections.abc import Callable
from dataclasses import dataclass

from sllmcore.commands import StartMigration
from sllmcore.events import MigrationFailed, MigrationFinished
from sllmcore.migration_rounds import MigrationRounds
from sllmcore.migration_strategy import MigrationFacts, StrategyChooser
from sllmsim.clock import SimClock
from sllmsim.engine import BatchEngine, SimSequence
from sllmsim.links import Hop, Links, Transfer
from sllmsim.setup import MigrationSettings
from sllmsim.splitting import Splits


@dataclass(frozen=True, slots=True)
class MigrationRoute:
    """The servers of a migration, and the way of a KV cache between them.

    Args:
        hops: From the source into the GPUs of the destination.
    """

    model: str
    kv_bytes_per_token: int
    source_server: str
    destination_server: str
    hops: tuple[Hop, ...]


class SimMigration:
    """A migration under way."""

    __slots__ = (
        "began_at_s",
        "command",
        "destination",
        "done_tokens",
        "open_parts",
        "over",
        "paused_at_s",
        "replay_tokens",
        "rounds",
        "route",
        "sent_tokens",
        "sequence",
        "source",
        "start_tokens",
        "transfer",
    )

    def __init__(
        self,
        command: StartMigration,
        source: BatchEngine,
        destination: BatchEngine,
        route: MigrationRoute,
        rounds: MigrationRounds,
        now_s: float,
    ) -> None:
        self.command = command
        self.source = source
        self.destination = destination
        self.route = route
        self.rounds = rounds
        self.began_at_s = now_s
        self.start_tokens = source.context_tokens(command.request_id)  # input and output tokens
        self.replay_tokens: int | None = None  # tokens before this one are recomputed; None: all
        self.done_tokens = 0  # their KV cache is at the destination
        self.sent_tokens = 0  # in the round under way
        self.open_parts = 0  # of the round under way: recomputation, copy
        self.transfer: Transfer | None = None  # the copy under way
        self.sequence: SimSequence | None = None  # in neither engine, after the source stopped
        self.paused_at_s = 0.0
        self.over = False


class Migrating:
    """The migrations under way: executes `StartMigration` and `AbortMigration`.

    Args:
        on_end: Called with the event that answers a migration.
        chooser: Chooses the strategy of each migration if `settings.strategy` is auto.
    """

    def __init__(
        self,
        clock: SimClock,
        links: Links,
        splits: Splits,
        settings: MigrationSettings,
        chooser: StrategyChooser | None,
        on_end: Callable[[MigrationFinished | MigrationFailed], None],
    ) -> None:
        self._clock = clock
        self._links = links
        self._splits = splits
        self._message_s = settings.message_s
        self._rounds = settings.rounds
        self._copies = settings.strategy == "copy"
        self._chooser = chooser
        self._on_end = on_end
        self._migrations: dict[str, SimMigration] = {}  # by move id

    def begin(
        self,
        command: StartMigration,
        source: BatchEngine,
        destination: BatchEngine,
        route: MigrationRoute,
    ) -> None:
        """Send the first round."""
        rounds = MigrationRounds(self._rounds)
        migration = SimMigration(
            command=command,
            source=source,
            destination=destination,
            route=route,
            rounds=rounds,
            now_s=self._clock.now,
        )
        self._migrations[command.move_id] = migration
        migration.replay_tokens = self._replay_tokens(migration)
        self._send(migration, migration.start_tokens)

    def abort(self, move_id: str, reason: str) -> None:
        """Clear the destination. A source that has stopped continues."""
        migration = self._migrations.get(move_id)
        if migration is not None:
            self._end_early(migration)
            command = migration.command
            self._finish(
                MigrationFailed(command.move_id, command.request_id, command.destination_id, reason)
            )

    def destination_lost(self, instance_id: str) -> None:
        """End the migrations to an instance without an event: the loss is reported instead."""
        for migration in list(self._migrations.values()):
            if migration.command.destination_id == instance_id:
                self._end_early(migration)

    def of_instance(self, instance_id: str) -> list[str]:
        """Return the ids of migrations from or to an instance."""
        return [
            move_id
            for move_id, migration in self._migrations.items()
            if instance_id in (migration.command.source_id, migration.command.destination_id)
        ]

    def in_flight(self, source_id: str) -> list[SimSequence]:
        """Return the sequences in neither engine, which are lost with their source."""
        return [
            migration.sequence
            for migration in self._migrations.values()
            if migration.command.source_id == source_id and migration.sequence is not None
        ]

    def source_lost(self, instance_id: str) -> None:
        """Stop the migrations from an instance; the controller will abort each of them."""
        for migration in self._migrations.values():
            if migration.command.source_id == instance_id:
                migration.sequence = None
                migration.over = True
                self._stop_copy(migration)

    def _replay_tokens(self, migration: SimMigration) -> int | None:
        if self._chooser is None:
            return 0 if self._copies else None
        route = migration.route
        facts = MigrationFacts(
            model=route.model,
            kv_bytes_per_token=route.kv_bytes_per_token,
            context_tokens=migration.start_tokens,
            source_server=route.source_server,
            destination_server=route.destination_server,
        )
        return self._chooser.begin_migration(migration.command.request_id, facts).replay_tokens

    def _end_early(self, migration: SimMigration) -> None:
        del self._migrations[migration.command.move_id]
        migration.over = True
        self._stop_copy(migration)
        if migration.sequence is not None:
            migration.source.adopt(migration.sequence)
            migration.sequence = None

    def _stop_copy(self, migration: SimMigration) -> None:
        if migration.transfer is not None:
            self._links.stop(migration.transfer)
            migration.transfer = None
            self._splits.go_on()

    def _send(self, migration: SimMigration, tokens: int) -> None:
        migration.sent_tokens = tokens
        self._clock.call_in(self._message_s, lambda _: self._arrive(migration))

    def _arrive(self, migration: SimMigration) -> None:
        """Begin both parts of a round at the destination: recompute tokens, copy those behind."""
        if migration.over:
            return
        begin, tokens = migration.done_tokens, migration.sent_tokens
        recomputed = tokens
        if migration.replay_tokens is not None:
            recomputed = max(0, min(tokens, migration.replay_tokens - begin))
        copied = tokens - recomputed
        migration.open_parts = 2 if recomputed and copied else 1
        if copied:
            self._copy(migration, copied)
        if recomputed or not copied:
            migration.destination.recompute(begin, recomputed, lambda: self._part_done(migration))

    def _copy(self, migration: SimMigration, tokens: int) -> None:
        def arrived() -> None:
            migration.transfer = None
            self._part_done(migration)
            self._splits.go_on()

        hops = migration.route.hops
        self._splits.make_way(hops)
        num_bytes = tokens * migration.route.kv_bytes_per_token
        migration.transfer = self._links.start(num_bytes, hops, arrived)

    def _part_done(self, migration: SimMigration) -> None:
        if migration.over:
            return
        migration.open_parts -= 1
        if not migration.open_parts:
            self._end_round(migration)

    def _end_round(self, migration: SimMigration) -> None:
        """Send the gap, or let the source stop if this gap is the last."""
        migration.done_tokens += migration.sent_tokens
        if migration.sequence is not None:
            self._commit(migration)
            return
        context_tokens = migration.source.context_tokens(migration.command.request_id)
        gap = context_tokens - migration.done_tokens
        if migration.rounds.end(gap):
            migration.source.take(
                migration.command.request_id, lambda sequence: self._stopped(migration, sequence)
            )
        else:
            self._send(migration, gap)

    def _stopped(self, migration: SimMigration, sequence: SimSequence) -> None:
        """Send the last tokens: the source has stopped and the client waits."""
        if migration.over:
            migration.source.adopt(sequence)
            return
        migration.sequence = sequence
        migration.paused_at_s = self._clock.now
        gap = sequence.context_tokens - migration.done_tokens
        if gap > 0:
            self._send(migration, gap)
        else:
            self._clock.call_in(self._message_s, lambda _: self._commit(migration))

    def _commit(self, migration: SimMigration) -> None:
        """Let the destination continue with the sequence."""
        if migration.over or migration.sequence is None:
            return
        command, now_s = migration.command, self._clock.now
        del self._migrations[command.move_id]
        migration.over = True
        migration.destination.adopt(migration.sequence)
        self._finish(
            MigrationFinished(
                move_id=command.move_id,
                request_id=command.request_id,
                source_id=command.source_id,
                destination_id=command.destination_id,
                num_tokens=migration.start_tokens,
                resume_s=now_s - migration.began_at_s,
                pause_s=now_s - migration.paused_at_s,
            )
        )

    def _finish(self, event: MigrationFinished | MigrationFailed) -> None:
        if self._chooser is not None:
            self._chooser.end_migration(event)
        self._on_end(event)
