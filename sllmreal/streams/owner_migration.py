"""The owner's part of a migration.

    StartMigration -> Prepare, Prepared -> Migrate, ... Ready(n) -> n >= length of the log?
                                                     yes: commit   no: the source has gone on

To commit is to set the route to the destination; it happens in `_commit` and nowhere else. Until
then the route is the source. A migration that is not committed can fail at any time: the source
goes on, and the failure is reported when the destination has dropped its stream. A committed
migration is reported as finished with the destination's first token.
"""

from dataclasses import dataclass, field
from enum import Enum, auto

from sllmcore.events import MigrationFailed, MigrationFinished
from sllmreal.streams import messages
from sllmreal.streams.messages import Epoch
from sllmreal.streams.owned_stream import OwnedStream, Route
from sllmreal.streams.owner_io import MigrationSpec, OwnerOptions
from sllmreal.streams.pending_stops import PendingStop


class MigrationStage(Enum):
    PREPARING = auto()  # the destination has not taken a slot yet
    MOVING = auto()  # source and destination transfer state
    COMMITTED = auto()  # the route is the destination; its first token has not arrived


@dataclass(slots=True)
class StreamMigration:
    """A migration, from StartMigration to the destination's first token.

    It fails if it is not committed by `deadline_s`.
    """

    spec: MigrationSpec
    epoch: Epoch  # of the destination's stream
    num_context: int  # tokens of prompt and output when it began
    began_at_s: float
    deadline_s: float
    options: OwnerOptions
    stage: MigrationStage = MigrationStage.PREPARING
    ready: messages.StreamReady | None = None
    ready_at_s: float = 0.0
    _resend_at_s: float = field(init=False)

    def __post_init__(self) -> None:
        self._resend_at_s = self.began_at_s + self.options.resend_s

    @property
    def committed(self) -> bool:
        return self.stage is MigrationStage.COMMITTED

    @property
    def next_wakeup_s(self) -> float | None:
        """Time of the next resend or of the deadline; None once committed."""
        return None if self.committed else min(self._resend_at_s, self.deadline_s)

    def enter(self, stage: MigrationStage, now_s: float) -> None:
        """Enter a stage and restart the resend timer."""
        self.stage = stage
        self._resend_at_s = now_s + self.options.resend_s

    def resend_due(self, now_s: float) -> bool:
        """Return True if unanswered messages are due for resending; restart the timer then."""
        if now_s < self._resend_at_s:
            return False
        self._resend_at_s = now_s + self.options.resend_s
        return True


class OwnerMigration:
    """The migration of one stream, if there is one."""

    def __init__(self, stream: OwnedStream) -> None:
        self._stream = stream
        self._current: StreamMigration | None = None

    @property
    def active(self) -> bool:
        """True from `start` until the migration has failed or its first token has arrived."""
        return self._current is not None

    @property
    def committed(self) -> bool:
        """True if a migration is committed and its first token has not arrived."""
        return self._current is not None and self._current.committed

    @property
    def next_wakeup_s(self) -> float | None:
        return None if self._current is None else self._current.next_wakeup_s

    def awaits(self, epoch: Epoch) -> bool:
        """Return True for the destination's epoch of a migration that is not committed."""
        current = self._current
        return current is not None and not current.committed and current.epoch == epoch

    def start(self, spec: MigrationSpec, now_s: float) -> None:
        """Start a migration. A previous one that is not committed fails."""
        stream = self._stream
        if stream.route is None or stream.route.instance_id != spec.source_id or self.committed:
            reason = f"the request does not run on {spec.source_id}"
            stream.report(
                MigrationFailed(spec.move_id, stream.request_id, spec.destination_id, reason)
            )
            return
        self.fail("another migration began", now_s)
        # Recomputing the context takes no longer than it took, or would have taken, to generate.
        patience_s = stream.options.move_s + stream.num_context * stream.log.token_s
        current = StreamMigration(
            spec,
            stream.next_epoch(),
            stream.num_context,
            began_at_s=now_s,
            deadline_s=now_s + patience_s,
            options=stream.options,
        )
        self._current = current
        self._send_prepare(current)

    def abort(self, move_id: str, now_s: float) -> None:
        """Abort a migration. One that is already committed is reported as finished instead."""
        if self._current is not None and self._current.spec.move_id == move_id:
            self.fail("aborted by the leader", now_s)

    def fail(self, reason: str, now_s: float) -> None:
        """End a migration that is not committed; do nothing otherwise.

        MigrationFailed is reported when the destination has dropped its stream.
        """
        current = self._current
        if current is None or current.committed:
            return
        self._current = None
        self._send_cancel(current)
        self._stream.begin_stop(
            PendingStop(
                current.spec.destination_id,
                current.epoch,
                now_s,
                failed_move_id=current.spec.move_id,
                reason=reason,
            )
        )

    def finish(self, now_s: float) -> None:
        """Report a committed migration as finished; do nothing otherwise.

        Called with the destination's first token, or with whatever ends the wait for it.
        """
        current = self._current
        if current is None or current.ready is None:
            return
        self._current = None
        stream, spec = self._stream, current.spec
        last_s = current.ready_at_s if stream.log.last_at_s is None else stream.log.last_at_s
        stream.report(
            MigrationFinished(
                move_id=spec.move_id,
                request_id=stream.request_id,
                source_id=spec.source_id,
                destination_id=spec.destination_id,
                num_tokens=current.num_context,
                resume_s=current.ready_at_s - current.began_at_s,
                pause_s=now_s - last_s,
            ),
            current.ready.num_recomputed,
        )

    def lose_instance(self, instance_id: str, now_s: float) -> None:
        """Handle the loss of an instance that may be the destination, or the committed source."""
        current = self._current
        if current is None:
            return
        if not current.committed and current.spec.destination_id == instance_id:
            self._current = None
            self._send_cancel(current)
        if instance_id in (current.spec.source_id, current.spec.destination_id):
            self.finish(now_s)  # or the controller would take the request for lost

    def receive_prepared(self, epoch: Epoch, now_s: float) -> None:
        """Take StreamPrepared from the destination."""
        current = self._current
        if (
            current is not None
            and current.epoch == epoch
            and current.stage is MigrationStage.PREPARING
        ):
            current.enter(MigrationStage.MOVING, now_s)
            self._send_migrate(current)

    def receive_ready(self, instance_id: str, ready: messages.StreamReady, now_s: float) -> None:
        """Take StreamReady from the destination."""
        stream, current = self._stream, self._current
        if stream.is_route(instance_id, ready.epoch):  # the CommitStream was lost
            commit = messages.CommitStream(stream.request_id, ready.epoch, len(stream.log))
            stream.send(instance_id, commit)
        elif current is None or stream.route is None or not self.awaits(ready.epoch):
            stream.stop_stale(instance_id, ready.epoch)
        elif ready.num_output < len(stream.log):
            self.fail("the source went on", now_s)
        else:
            self._commit(current, stream.route, ready, now_s)

    def advance(self, now_s: float) -> None:
        """Send unanswered messages again, or fail at the deadline."""
        current, stream = self._current, self._stream
        if current is None or current.committed:
            return
        if now_s >= current.deadline_s:
            self.fail("took too long", now_s)
        elif current.resend_due(now_s):
            if current.stage is MigrationStage.PREPARING:
                self._send_prepare(current)
            else:
                poll = messages.PollStream(stream.request_id, current.epoch, len(stream.log))
                stream.send(current.spec.destination_id, poll)
                self._send_migrate(current)

    def _commit(
        self, current: StreamMigration, source: Route, ready: messages.StreamReady, now_s: float
    ) -> None:
        """Set the route to the destination: from here on only its tokens are accepted."""
        stream, destination_id = self._stream, current.spec.destination_id
        stream.route = Route(destination_id, current.epoch, now_s + stream.options.resend_s)
        current.enter(MigrationStage.COMMITTED, now_s)
        current.ready, current.ready_at_s = ready, now_s
        commit = messages.CommitStream(stream.request_id, current.epoch, len(stream.log))
        stream.send(destination_id, commit)
        stream.begin_stop(PendingStop(source.instance_id, source.epoch, now_s))

    def _send_prepare(self, current: StreamMigration) -> None:
        spec = self._stream.packed_spec(())
        prepare = messages.PrepareStream(current.epoch, spec, current.spec.params)
        self._stream.send(current.spec.destination_id, prepare)

    def _send_migrate(self, current: StreamMigration) -> None:
        stream, spec = self._stream, current.spec
        assert stream.route is not None, "until the commit the route is the source"
        migrate = messages.MigrateStream(
            request_id=stream.request_id,
            epoch=stream.route.epoch,
            new_epoch=current.epoch,
            destination=spec.address,
            params=spec.params,
        )
        stream.send(stream.route.instance_id, migrate)

    def _send_cancel(self, current: StreamMigration) -> None:
        stream = self._stream
        if stream.route is not None and current.stage is MigrationStage.MOVING:
            cancel = messages.CancelMigration(stream.request_id, stream.route.epoch, current.epoch)
            stream.send(stream.route.instance_id, cancel)
