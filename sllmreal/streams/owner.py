"""The owner of a stream: the log of what the client has, and where the rest comes from.

One per request, in the process that talks to the client, whether or not the request ever moves.
The log only grows, by tokens that continue it and come from the *route*: the instance and epoch
that the owner listens to. A new route is a new epoch, and its host began with the log, or with
what the old route's host had generated, of which the log is a beginning; so the log is always a
beginning of what the route's host knows, even where another host would have generated otherwise.

    Resume -> Prepare, Prepared -> Migrate, ... Ready(n) -> n >= length of the log?
                                                             yes: commit   no: the source went on

Setting the route is the commit, here and nowhere else. All that a host has beside it is told to
stop until it says that it has.
"""

from typing import assert_never

from sllmcore.events import (
    InferenceFailed,
    InferenceFinished,
    InferenceStopped,
    MigrationFailed,
    MigrationFinished,
)
from sllmreal.engine.errors import ContextTooLongError
from sllmreal.engine.protocol import FinishReason, SequenceSpec
from sllmreal.streams import messages as wire
from sllmreal.streams.messages import Epoch
from sllmreal.streams.owner_io import (
    DeliverTokens,
    MigrationOrder,
    Output,
    OwnerOptions,
    ReportEvent,
    SendToHost,
    StreamEvent,
)
from sllmreal.streams.owner_messages import StreamMessages
from sllmreal.streams.route import MigrationStage, Route, StreamMigration
from sllmreal.streams.stopping import PendingStop, PendingStops
from sllmreal.streams.token_log import TokenLog

_DEFAULTS = OwnerOptions()


class StreamOwner:
    """The state machine of one request. Commands, messages and the time go in, outputs come out."""

    def __init__(self, spec: SequenceSpec, options: OwnerOptions = _DEFAULTS) -> None:
        self._spec = spec
        self._options = options
        self._messages = StreamMessages(spec)
        self._log = TokenLog(spec)
        self._finish: FinishReason | None = None
        self._epoch = 0
        self._route: Route | None = None
        self._move: StreamMigration | None = None
        self._farewells = PendingStops(options.resend_s)
        self._outputs: list[Output] = []

    @property
    def log(self) -> tuple[int, ...]:
        return self._log.tokens

    @property
    def num_context(self) -> int:
        """Tokens of prompt and output."""
        return len(self._spec.prompt) + len(self._log)

    @property
    def finish(self) -> FinishReason | None:
        return self._finish

    @property
    def instance_id(self) -> str | None:
        """Where the tokens come from."""
        return None if self._route is None else self._route.instance_id

    @property
    def settled(self) -> bool:
        """Whether no host holds anything of this request, nor is about to."""
        return self._route is None and self._move is None and not len(self._farewells)

    @property
    def next_wakeup_s(self) -> float | None:
        """When to call `wakeup`, at the latest."""
        times_s = [self._farewells.next_repeat_s]
        if self._route is not None:
            times_s.append(self._route.poll_at_s)
        if self._move is not None:
            times_s.append(self._move.next_wakeup_s)
        return min((time_s for time_s in times_s if time_s is not None), default=None)

    def take_outputs(self) -> list[Output]:
        """What is to be done, in this order, since the last call."""
        outputs, self._outputs = self._outputs, []
        return outputs

    # What the controller asks for.

    def infer(self, instance_id: str, now_s: float) -> None:
        """Run, or go on after an interruption, on an instance."""
        self._leave_route(now_s)
        finish = self._log.finish
        if finish is not None:  # its last message was lost with the instance before
            self._finished(instance_id, finish, now_s)
            return
        self._start(instance_id, now_s)

    def stop(self, instance_id: str, now_s: float) -> None:
        """Break off. Not answered when the stream does not come from this instance any more."""
        route = self._route
        if route is None or route.instance_id != instance_id:
            return
        self._report_moved(now_s)
        self._fail_move("the request was stopped", now_s)
        self._route = None
        self._dismiss(
            PendingStop(instance_id, self._messages.stop(route.epoch), now_s, stopping=True)
        )

    def resume(self, order: MigrationOrder, now_s: float) -> None:
        """Move. Answered by MigrationFinished or MigrationFailed, unless the destination is lost,
        which `lost` must tell."""
        route = self._route
        if route is None or route.instance_id != order.source_id or self._committed:
            self._report_failed(order, f"the request does not run on {order.source_id}")
            return
        self._fail_move("another move began", now_s)
        # Computing the context again takes no longer than it took, or would have, to generate.
        patience_s = self._options.move_s + self.num_context * self._log.token_s
        move = StreamMigration(
            order, self._next_epoch(), self.num_context, now_s, now_s + patience_s, self._options
        )
        self._move = move
        self._send_prepare(move)

    def abort(self, move_id: str, now_s: float) -> None:
        """Call a move off. One that is committed has finished, and says so."""
        if self._move is not None and self._move.order.move_id == move_id:
            self._fail_move("called off", now_s)

    def lost(self, instance_id: str, now_s: float) -> None:
        """An instance is gone. Call this, and pass its outputs on, before the controller hears."""
        self._farewells.forget(instance_id)
        route, move = self._route, self._move
        if move is not None and not move.committed and move.order.destination_id == instance_id:
            self._move = None
            self._send_stay(move)
        if move is not None and instance_id in (move.order.source_id, move.order.destination_id):
            self._report_moved(now_s)  # else the controller would take its request for lost
        if route is not None and route.instance_id == instance_id:
            self._fail_move("the source was lost", now_s)
            self._route = None

    # What hosts say, and the time.

    def receive(self, instance_id: str, message: wire.ToOwner, now_s: float) -> None:
        """A message about this request from the host of an instance."""
        match message:
            case wire.Tokens():
                self._receive_tokens(instance_id, message, now_s)
            case wire.StreamStopped():
                self._receive_stopped(message)
            case wire.StreamUnknown(_, epoch):
                if self._listens(instance_id, epoch):
                    self._start(instance_id, now_s)
                elif self._awaits(epoch):
                    self._fail_move("the destination forgot it", now_s)
            case wire.StreamRefused():
                self._receive_refused(instance_id, message, now_s)
            case wire.StreamPrepared(_, epoch):
                self._receive_prepared(epoch, now_s)
            case wire.StreamReady():
                self._receive_ready(instance_id, message, now_s)
            case wire.StreamNotMoved(_, _, new_epoch, reason):
                if self._awaits(new_epoch):
                    self._fail_move(reason, now_s)
            case wire.HostOnline() | wire.HostStatus() | wire.EngineFailed():
                pass  # about the host, not about a stream
            case _:
                assert_never(message)

    def wakeup(self, now_s: float) -> None:
        """The time that `next_wakeup_s` asked for may have come."""
        for farewell in self._farewells.due(now_s):
            self._send(farewell.instance_id, farewell.message)
        if self._move is not None and not self._move.committed:
            self._push_move(self._move, now_s)
        if self._route is not None and now_s >= self._route.poll_at_s:
            self._poll(self._route, now_s)

    def _push_move(self, move: StreamMigration, now_s: float) -> None:
        if now_s >= move.deadline_s:
            self._fail_move("took too long", now_s)
        elif move.repeat_due(now_s):
            if move.stage is MigrationStage.PREPARING:
                self._send_prepare(move)
            else:
                poll = self._messages.poll(move.epoch, len(self._log))
                self._send(move.order.destination_id, poll)
                self._send_migrate(move)

    # Tokens.

    def _receive_tokens(self, instance_id: str, message: wire.Tokens, now_s: float) -> None:
        route = self._route
        if route is None or not self._listens(instance_id, message.epoch):
            self._refuse_stale(instance_id, message.epoch)
            return
        have = len(self._log)
        if message.first > have:
            if now_s >= route.gap_asked_at_s + self._options.gap_s:
                route.gap_asked_at_s = now_s
                self._poll(route, now_s)
            return
        if message.first + len(message.tokens) > have:
            self._report_moved(now_s)
        new = self._log.append(message.first, message.tokens, now_s)
        if new or message.finish is not None:
            self._outputs.append(DeliverTokens(have, new, message.finish))
        if message.finish is not None:
            self._report_moved(now_s)
            self._leave_route(now_s)
            self._conclude(instance_id, message.finish, now_s)

    def _finished(self, instance_id: str, finish: FinishReason, now_s: float) -> None:
        self._outputs.append(DeliverTokens(len(self._log), (), finish))
        self._conclude(instance_id, finish, now_s)

    def _conclude(self, instance_id: str, finish: FinishReason, now_s: float) -> None:
        self._finish = finish
        began_s = now_s if self._log.first_at_s is None else self._log.first_at_s
        self._report(InferenceFinished(self._spec.request_id, instance_id, len(self._log), began_s))

    # Routes.

    def _start(self, instance_id: str, now_s: float) -> None:
        """Give the request to an instance, anew: what runs there at a lower epoch makes way."""
        self._fail_move("the source forgot it", now_s)
        self._report_moved(now_s)
        epoch = self._next_epoch()
        self._route = Route(instance_id, epoch, now_s + self._options.poll_s)
        self._send(instance_id, self._messages.start(epoch, self._log.tokens))

    def _leave_route(self, now_s: float) -> None:
        self._fail_move("the source finished", now_s)
        if self._route is not None:
            route, self._route = self._route, None
            self._dismiss(PendingStop(route.instance_id, self._messages.stop(route.epoch), now_s))

    def _poll(self, route: Route, now_s: float) -> None:
        have = len(self._log)
        if self._committed:
            self._send(route.instance_id, self._messages.commit(route.epoch, have))
            route.poll_at_s = now_s + self._options.resend_s
        else:
            self._send(route.instance_id, self._messages.poll(route.epoch, have))
            route.poll_at_s = now_s + self._options.poll_s

    def _listens(self, instance_id: str, epoch: Epoch) -> bool:
        route = self._route
        return route is not None and route.instance_id == instance_id and route.epoch == epoch

    def _refuse_stale(self, instance_id: str, epoch: Epoch) -> None:
        """Tell a host that goes on with what nobody wants."""
        if not self._awaits(epoch) and epoch not in self._farewells:
            self._send(instance_id, self._messages.stop(epoch))

    def _receive_refused(self, instance_id: str, message: wire.StreamRefused, now_s: float) -> None:
        if self._awaits(message.epoch):
            self._fail_move(f"the destination refused: {message.reason}", now_s)
        elif self._listens(instance_id, message.epoch):
            self._report_moved(now_s)
            self._leave_route(now_s)
            if message.kind == ContextTooLongError.__name__ and self._log:
                self._finished(instance_id, FinishReason.LENGTH, now_s)
            else:
                reason = f"{message.kind}: {message.reason}"
                self._report(InferenceFailed(self._spec.request_id, instance_id, reason))

    def _receive_stopped(self, message: wire.StreamStopped) -> None:
        farewell = self._farewells.pop(message.epoch)
        if farewell is None:
            return
        request_id = self._spec.request_id
        if farewell.stopping:
            lost_tokens = max(0, (message.num_output or 0) - len(self._log))
            self._report(InferenceStopped(request_id, farewell.instance_id, lost_tokens))
        if farewell.move_id is not None:
            self._report(
                MigrationFailed(farewell.move_id, request_id, farewell.instance_id, farewell.reason)
            )

    def _dismiss(self, farewell: PendingStop) -> None:
        self._farewells.add(farewell)
        self._send(farewell.instance_id, farewell.message)
        farewell.repeat_at_s += self._options.resend_s

    # Moves.

    @property
    def _committed(self) -> bool:
        """Whether a move is committed whose first token has not come."""
        return self._move is not None and self._move.committed

    def _awaits(self, epoch: Epoch) -> bool:
        """Whether this is the destination's epoch of a move that is not committed."""
        move = self._move
        return move is not None and not move.committed and move.epoch == epoch

    def _receive_prepared(self, epoch: Epoch, now_s: float) -> None:
        move = self._move
        if move is not None and move.epoch == epoch and move.stage is MigrationStage.PREPARING:
            move.enter(MigrationStage.MOVING, now_s)
            self._send_migrate(move)

    def _receive_ready(self, instance_id: str, message: wire.StreamReady, now_s: float) -> None:
        move, route = self._move, self._route
        if self._listens(instance_id, message.epoch):  # the commit was lost
            self._send(instance_id, self._messages.commit(message.epoch, len(self._log)))
        elif move is None or route is None or not self._awaits(message.epoch):
            self._refuse_stale(instance_id, message.epoch)
        elif message.num_output < len(self._log):
            self._fail_move("the source went on", now_s)
        else:
            self._commit(move, route, message, now_s)

    def _commit(
        self, move: StreamMigration, source: Route, ready: wire.StreamReady, now_s: float
    ) -> None:
        """From here on the destination's tokens are the request's, and no other's."""
        destination_id = move.order.destination_id
        self._route = Route(destination_id, move.epoch, now_s + self._options.resend_s)
        move.enter(MigrationStage.COMMITTED, now_s)
        move.ready, move.ready_at_s = ready, now_s
        self._send(destination_id, self._messages.commit(move.epoch, len(self._log)))
        self._dismiss(PendingStop(source.instance_id, self._messages.stop(source.epoch), now_s))

    def _report_moved(self, now_s: float) -> None:
        """A committed move has finished: with its first token, or with what came instead."""
        move = self._move
        if move is None or move.ready is None:
            return
        self._move = None
        last_s = move.ready_at_s if self._log.last_at_s is None else self._log.last_at_s
        finished = MigrationFinished(
            move.order.move_id,
            self._spec.request_id,
            move.order.source_id,
            move.order.destination_id,
            move.num_context,
            resume_s=move.ready_at_s - move.began_at_s,
            pause_s=now_s - last_s,
        )
        self._outputs.append(ReportEvent(finished, move.ready.num_recomputed))

    def _fail_move(self, reason: str, now_s: float) -> None:
        """A move that is not committed ends; it is reported when the destination is clean."""
        move = self._move
        if move is None or move.committed:
            return
        self._move = None
        self._send_stay(move)
        destination_id, stop = move.order.destination_id, self._messages.stop(move.epoch)
        self._dismiss(
            PendingStop(destination_id, stop, now_s, move_id=move.order.move_id, reason=reason)
        )

    def _report_failed(self, order: MigrationOrder, reason: str) -> None:
        self._report(
            MigrationFailed(order.move_id, self._spec.request_id, order.destination_id, reason)
        )

    def _next_epoch(self) -> Epoch:
        self._epoch += 1
        return Epoch(self._epoch)

    def _send(self, instance_id: str, message: wire.ToHost) -> None:
        self._outputs.append(SendToHost(instance_id, message))

    def _report(self, event: StreamEvent) -> None:
        self._outputs.append(ReportEvent(event))

    # A move that is not committed has the route as its source.

    def _send_prepare(self, move: StreamMigration) -> None:
        message = self._messages.prepare(move.epoch, move.order)
        self._send(move.order.destination_id, message)

    def _send_migrate(self, move: StreamMigration) -> None:
        assert self._route is not None
        message = self._messages.migrate(self._route.epoch, move.epoch, move.order)
        self._send(self._route.instance_id, message)

    def _send_stay(self, move: StreamMigration) -> None:
        if self._route is not None and move.stage is MigrationStage.MOVING:
            message = self._messages.stay(self._route.epoch, move.epoch)
            self._send(self._route.instance_id, message)
