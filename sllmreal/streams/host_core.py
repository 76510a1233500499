"""A host without thread, clock or socket: one engine, its streams, and their migrations.

Messages about streams are idempotent, because the owner repeats them. A stream is identified by its
request and epoch. A higher epoch replaces a lower one, and an epoch that has ended cannot start
again.

The caller runs `engine.step()` while `has_work`, and passes its result to `receive_tokens`.
"""

import logging
from collections import defaultdict
from collections.abc import Sequence
from typing import assert_never

from sllmcore.errors import SllmError
from sllmreal.engine.protocol import Engine, OutputToken
from sllmreal.migration.messages import ToDestination, ToSource
from sllmreal.streams import messages
from sllmreal.streams.host_io import HostOptions, HostOutput
from sllmreal.streams.host_migrations import HostMigrations
from sllmreal.streams.host_streams import HostStream, StreamTable

_LOG = logging.getLogger(__name__)


class HostCore:
    """The state machine of one engine; `sllmreal.streams` documents its convention."""

    def __init__(self, engine: Engine, options: HostOptions | None = None) -> None:
        self.engine = engine
        self._options = options or HostOptions()
        self._streams = StreamTable(engine)
        self._migrations = HostMigrations(engine, self._streams, self._options)

    @property
    def has_work(self) -> bool:
        """True if the engine has a step to do."""
        return self.engine.has_work

    @property
    def num_streams(self) -> int:
        """Streams held, including finished ones that wait for StopStream."""
        return len(self._streams)

    @property
    def next_wakeup_s(self) -> float | None:
        """Latest time to call `advance`; None if nothing is due at any time."""
        times_s: list[float] = []
        for stream in self._streams:
            times_s.append(stream.last_message_at_s + self._options.lease_s)
            if stream.incoming is not None and stream.incoming.resend_at_s is not None:
                times_s.append(stream.incoming.resend_at_s)
            if stream.outgoing is not None:
                wakeup_s = stream.outgoing.machine.next_wakeup_s
                times_s += [] if wakeup_s is None else [wakeup_s]
        return min(times_s, default=None)

    def receive(self, message: messages.ToHost, now_s: float) -> None:
        """Take a message from the owner."""
        match message:
            case messages.StartStream():
                self._start(message, now_s)
            case messages.PrepareStream():
                self._migrations.prepare(message, now_s)
            case messages.MigrateStream():
                self._migrations.migrate(message, now_s)
            case messages.StopStream(request_id, epoch):
                self._stop(request_id, epoch)
            case messages.PollStream() | messages.CommitStream() | messages.CancelMigration():
                self._receive_about_stream(message, now_s)
            case messages.GetHostStatus():
                status = messages.HostStatus(len(self._streams), self.engine.statistics())
                self._streams.send(status)
            case messages.Shutdown():
                for stream in self._streams:
                    self._streams.drop(stream)
            case _:
                assert_never(message)

    def receive_from_host(
        self, link_id: bytes, message: ToDestination | ToSource, now_s: float
    ) -> None:
        """Take a message from the other host of a migration."""
        self._migrations.receive(link_id, message, now_s)

    def lose_link(self, link_id: bytes, reason: str, now_s: float) -> None:
        """Handle a link that broke, or could not be made."""
        self._migrations.lose_link(link_id, reason, now_s)

    def receive_tokens(self, tokens: Sequence[OutputToken], now_s: float) -> None:
        """Take the tokens of one engine step."""
        by_request: dict[str, list[OutputToken]] = defaultdict(list)
        for token in tokens:
            by_request[token.request_id].append(token)
        for request_id, tokens_of_request in by_request.items():
            self._send_tokens(self._streams.of_request(request_id), tokens_of_request)
        for stream in self._streams:
            self._migrations.advance_incoming(stream, now_s)

    def advance(self, now_s: float) -> None:
        """Drop streams with an expired lease; send the messages of migrations that are due."""
        for stream in self._streams:
            if now_s >= stream.last_message_at_s + self._options.lease_s:
                _LOG.info(
                    "stream dropped: no message from its owner for %.1f s",
                    now_s - stream.last_message_at_s,
                    extra={"request": stream.request_id},
                )
                self._streams.drop(stream)
                continue
            self._migrations.resend_ready(stream, now_s)
            self._migrations.advance_outgoing(stream, now_s)

    def take_outputs(self) -> list[HostOutput]:
        """Return the outputs since the last call, in order."""
        return self._streams.take_outputs()

    def _start(self, message: messages.StartStream, now_s: float) -> None:
        request_id, epoch = message.spec.request_id, message.epoch
        if not self._streams.make_room(request_id, epoch):
            return
        try:
            spec = message.spec.unpacked()
            self.engine.start(spec)
        except SllmError as error:
            kind = type(error).__name__
            _LOG.info("stream refused: %s: %s", kind, error, extra={"request": request_id})
            self._streams.send(messages.StreamRefused(request_id, epoch, kind, str(error)))
            return
        stream = HostStream(request_id, epoch, now_s)
        self._streams.add(stream)
        finish = self.engine.progress(request_id).finish
        if finish is not None:  # `spec.output` was complete already
            self._streams.finish(stream, finish)
            self._streams.send_output(stream, len(spec.output))

    def _stop(self, request_id: str, epoch: messages.Epoch) -> None:
        stream = self._streams.find(request_id, epoch)
        num_output = None
        if stream is not None:
            if stream.finished is not None:
                num_output = len(stream.finished.tokens)
            else:
                num_output = self.engine.progress(request_id).num_output
            self._streams.drop(stream)
        self._streams.mark_ended(request_id, epoch)
        self._streams.send(messages.StreamStopped(request_id, epoch, num_output))

    def _receive_about_stream(
        self,
        message: messages.PollStream | messages.CommitStream | messages.CancelMigration,
        now_s: float,
    ) -> None:
        stream = self._streams.find(message.request_id, message.epoch)
        if stream is None:
            self._streams.send(messages.StreamUnknown(message.request_id, message.epoch))
            return
        stream.last_message_at_s = now_s
        match message:
            case messages.CancelMigration(_, _, new_epoch):
                if stream.outgoing is not None and stream.outgoing.new_epoch == new_epoch:
                    self._migrations.cancel(stream, "the owner cancelled it")
                stream.last_new_epoch = max(stream.last_new_epoch, new_epoch)
            case messages.CommitStream(_, _, num_received):
                self._migrations.commit(stream)
                self._streams.send_output(stream, num_received)
            case messages.PollStream(_, _, num_received):
                if stream.incoming is None:
                    self._streams.send_output(stream, num_received)

    def _send_tokens(self, stream: HostStream, tokens: list[OutputToken]) -> None:
        finish = tokens[-1].finish
        numbers = tuple(token.token for token in tokens)
        if finish is not None:
            self._streams.finish(stream, finish)
        self._streams.send(
            messages.Tokens(
                request_id=stream.request_id,
                epoch=stream.epoch,
                first=tokens[0].index,
                tokens=numbers,
                finish=finish,
                logprobs=b"".join(token.logprobs for token in tokens),
            )
        )
