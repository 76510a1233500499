"""The owner of a stream: it logs the tokens that the client has, and chooses where the rest is run.

Each request has one owner, in the process that talks to the client. The token log only grows, by
tokens that continue it and come from the *route*: the instance and epoch that the owner accepts
tokens from. A new route is a new epoch. Its host begins with the log, or with the tokens of the old
route's host, which the log is a prefix of. So the log is always a prefix of the tokens of the
route's host, even if another host would have generated other tokens.

The route changes in two places: when the leader starts the request on an instance, and when a
migration is committed (`owner_migration`). Every other stream of the request is sent StopStream
until its host answers StreamStopped.
"""

from typing import assert_never

from sllmcore.events import InferenceFailed, InferenceFinished, InferenceStopped, MigrationFailed
from sllmreal.engine.errors import ContextTooLongError
from sllmreal.engine.protocol import FinishReason, SequenceSpec
from sllmreal.streams import messages
from sllmreal.streams.owned_stream import OwnedStream, Route
from sllmreal.streams.owner_io import DeliverTokens, MigrationSpec, OwnerOptions, OwnerOutput
from sllmreal.streams.owner_migration import OwnerMigration
from sllmreal.streams.pending_stops import PendingStop

_DEFAULTS = OwnerOptions()


class StreamOwner:
    """The state machine of one request; `sllmreal.streams` documents its convention."""

    def __init__(self, spec: SequenceSpec, options: OwnerOptions = _DEFAULTS) -> None:
        self._stream = OwnedStream(spec, options)
        self._migration = OwnerMigration(self._stream)
        self._finish: FinishReason | None = None

    @property
    def output(self) -> tuple[int, ...]:
        """Output tokens delivered so far."""
        return self._stream.log.tokens

    @property
    def num_context(self) -> int:
        """Tokens of prompt and output."""
        return self._stream.num_context

    @property
    def finish(self) -> FinishReason | None:
        """The reason why the request finished; None before."""
        return self._finish

    @property
    def instance_id(self) -> str | None:
        """The instance that generates the tokens; None while the request does not run."""
        route = self._stream.route
        return None if route is None else route.instance_id

    @property
    def settled(self) -> bool:
        """True if no host holds a stream of this request and none is about to."""
        stream = self._stream
        return stream.route is None and not self._migration.active and not len(stream.stops)

    @property
    def num_pending_stops(self) -> int:
        """Number of streams that hosts have not confirmed as stopped."""
        return len(self._stream.stops)

    @property
    def next_wakeup_s(self) -> float | None:
        """Latest time to call `advance`; None if nothing is due at any time."""
        times_s = [self._stream.stops.next_resend_s, self._migration.next_wakeup_s]
        if self._stream.route is not None:
            times_s.append(self._stream.route.poll_at_s)
        return min((time_s for time_s in times_s if time_s is not None), default=None)

    def take_outputs(self) -> list[OwnerOutput]:
        """Return the outputs since the last call, in order."""
        return self._stream.take_outputs()

    # Inputs from the leader.

    def start(self, instance_id: str, now_s: float) -> None:
        """Run the request on an instance, from the end of the log on."""
        self._end_route(now_s)
        finish = self._stream.log.finish
        if finish is not None:  # the message with the finish was lost with the previous instance
            self._stream.add_output(DeliverTokens(len(self._stream.log), (), finish))
            self._conclude(instance_id, finish, now_s)
            return
        self._set_route(instance_id, now_s)

    def stop(self, instance_id: str, now_s: float) -> None:
        """Stop the request. Not answered if the request does not run on this instance."""
        route = self._stream.route
        if route is None or route.instance_id != instance_id:
            return
        self._migration.finish(now_s)
        self._migration.fail("the request was stopped", now_s)
        self._stream.route = None
        self._stream.begin_stop(PendingStop(instance_id, route.epoch, now_s, reports_stopped=True))

    def abandon(self, now_s: float) -> None:
        """End the stream on its instance, which sends nothing, and report InferenceStopped.

        The report does not wait for the instance. Nothing happens if the request does not run.
        """
        route = self._stream.route
        if route is not None:
            self._migration.finish(now_s)
            self._end_route(now_s)
            self._stream.report(InferenceStopped(self._stream.request_id, route.instance_id, 0))

    def fail(self, reason: str, now_s: float) -> None:
        """End the stream on its instance, and report InferenceFailed. See `abandon`."""
        route = self._stream.route
        if route is not None:
            self._migration.finish(now_s)
            self._end_route(now_s)
            self._stream.report(InferenceFailed(self._stream.request_id, route.instance_id, reason))

    def migrate(self, spec: MigrationSpec, now_s: float) -> None:
        """Start a migration.

        Answered by MigrationFinished or MigrationFailed, unless the destination is lost: the caller
        then calls `lose_instance` and the migration ends without an answer.
        """
        self._migration.start(spec, now_s)

    def abort_migration(self, move_id: str, now_s: float) -> None:
        """Abort a migration. One that is already committed is reported as finished instead."""
        self._migration.abort(move_id, now_s)

    def lose_instance(self, instance_id: str, now_s: float) -> None:
        """Handle the loss of an instance.

        Pass the outputs on before the loss is reported to the controller.
        """
        self._stream.stops.forget(instance_id)
        self._migration.lose_instance(instance_id, now_s)
        if self.instance_id == instance_id:
            self._migration.fail("the source was lost", now_s)
            self._stream.route = None

    # Inputs from hosts, and time.

    def receive(self, instance_id: str, message: messages.ToOwner, now_s: float) -> None:
        """Take a message about this request from the host of an instance."""
        match message:
            case messages.Tokens():
                self._receive_tokens(instance_id, message, now_s)
            case messages.StreamStopped():
                self._receive_stopped(message)
            case messages.StreamUnknown(_, epoch):
                if self._stream.is_route(instance_id, epoch):
                    self._set_route(instance_id, now_s)
                elif self._migration.awaits(epoch):
                    self._migration.fail("the destination does not know the stream", now_s)
            case messages.StreamRefused():
                self._receive_refused(instance_id, message, now_s)
            case messages.StreamPrepared(_, epoch):
                self._migration.receive_prepared(epoch, now_s)
            case messages.StreamReady():
                self._migration.receive_ready(instance_id, message, now_s)
            case messages.StreamNotMoved(_, _, new_epoch, reason):
                if self._migration.awaits(new_epoch):
                    self._migration.fail(reason, now_s)
            case messages.HostOnline() | messages.HostStatus() | messages.EngineFailed():
                pass  # about the host, not about a stream
            case _:
                assert_never(message)

    def advance(self, now_s: float) -> None:
        """Send what is due at `now_s`: stops, messages of the migration, a poll."""
        for stop in self._stream.stops.due(now_s):
            self._stream.send_stop(stop)
        self._migration.advance(now_s)
        route = self._stream.route
        if route is not None and now_s >= route.poll_at_s:
            self._poll(route, now_s)

    def _receive_tokens(self, instance_id: str, message: messages.Tokens, now_s: float) -> None:
        stream, route = self._stream, self._stream.route
        if route is None or not stream.is_route(instance_id, message.epoch):
            if not self._migration.awaits(message.epoch):
                stream.stop_stale(instance_id, message.epoch)
            return
        num_known = len(stream.log)
        if message.first > num_known:
            if now_s >= route.gap_polled_at_s + stream.options.gap_s:
                route.gap_polled_at_s = now_s
                self._poll(route, now_s)
            return
        if message.first + len(message.tokens) > num_known:
            self._migration.finish(now_s)
        new = stream.log.append(message.first, message.tokens, now_s)
        if new or message.finish is not None:
            records = message.logprobs  # of equal size: the last ones are of the new tokens
            size = len(new) * (len(records) // max(1, len(message.tokens)))
            new_records = records[len(records) - size :]
            stream.add_output(DeliverTokens(num_known, new, message.finish, new_records))
        if message.finish is not None:
            self._migration.finish(now_s)
            self._end_route(now_s)
            self._conclude(instance_id, message.finish, now_s)

    def _receive_refused(
        self, instance_id: str, message: messages.StreamRefused, now_s: float
    ) -> None:
        stream = self._stream
        if self._migration.awaits(message.epoch):
            self._migration.fail(f"the destination refused: {message.reason}", now_s)
        elif stream.is_route(instance_id, message.epoch):
            self._migration.finish(now_s)
            self._end_route(now_s)
            if message.kind == ContextTooLongError.__name__ and stream.log:
                stream.add_output(DeliverTokens(len(stream.log), (), FinishReason.LENGTH))
                self._conclude(instance_id, FinishReason.LENGTH, now_s)
            else:
                reason = f"{message.kind}: {message.reason}"
                stream.report(InferenceFailed(stream.request_id, instance_id, reason))

    def _receive_stopped(self, message: messages.StreamStopped) -> None:
        stream = self._stream
        stop = stream.stops.pop(message.epoch)
        if stop is None:
            return
        if stop.reports_stopped:
            lost_tokens = max(0, (message.num_output or 0) - len(stream.log))
            stream.report(InferenceStopped(stream.request_id, stop.instance_id, lost_tokens))
        if stop.failed_move_id is not None:
            stream.report(
                MigrationFailed(
                    stop.failed_move_id, stream.request_id, stop.instance_id, stop.reason
                )
            )

    def _conclude(self, instance_id: str, finish: FinishReason, now_s: float) -> None:
        stream = self._stream
        self._finish = finish
        began_s = now_s if stream.log.first_at_s is None else stream.log.first_at_s
        stream.report(InferenceFinished(stream.request_id, instance_id, len(stream.log), began_s))

    def _set_route(self, instance_id: str, now_s: float) -> None:
        """Start the request on an instance; its host drops a stream of a lower epoch."""
        self._migration.fail("the source does not know the stream", now_s)
        self._migration.finish(now_s)
        stream = self._stream
        epoch = stream.next_epoch()
        stream.route = Route(instance_id, epoch, now_s + stream.options.poll_s)
        start = messages.StartStream(epoch, stream.packed_spec(stream.log.tokens))
        stream.send(instance_id, start)

    def _end_route(self, now_s: float) -> None:
        self._migration.fail("the source finished", now_s)
        stream = self._stream
        if stream.route is not None:
            route, stream.route = stream.route, None
            stream.begin_stop(PendingStop(route.instance_id, route.epoch, now_s))

    def _poll(self, route: Route, now_s: float) -> None:
        stream = self._stream
        request_id, num_received = stream.request_id, len(stream.log)
        if self._migration.committed:
            commit = messages.CommitStream(request_id, route.epoch, num_received)
            stream.send(route.instance_id, commit)
            route.poll_at_s = now_s + stream.options.resend_s
        else:
            poll = messages.PollStream(request_id, route.epoch, num_received)
            stream.send(route.instance_id, poll)
            route.poll_at_s = now_s + stream.options.poll_s
