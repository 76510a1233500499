"""Migrations to and from one host."""

import logging
from dataclasses import replace

from sllmcore.errors import SllmError, UsageError
from sllmreal.engine.protocol import Engine
from sllmreal.migration.destination import MigrationDestination
from sllmreal.migration.errors import WrongModelError, WrongStateError
from sllmreal.migration.frames import link_id_of
from sllmreal.migration.messages import Ack, Position, RejectMigration, ToDestination, ToSource
from sllmreal.migration.sequence import ArrivingSequence, DepartingSequence
from sllmreal.migration.source import MigrationSource
from sllmreal.streams import messages
from sllmreal.streams.host_io import Connect, Disconnect, Expect, HostOptions, Transmit
from sllmreal.streams.host_streams import (
    HostStream,
    IncomingMigration,
    OutgoingMigration,
    StreamTable,
)

_LOG = logging.getLogger(__name__)
_MIN_KEY_BYTES = 16


class HostMigrations:
    """The host's part in migrations: as destination (incoming) and as source (outgoing)."""

    def __init__(self, engine: Engine, streams: StreamTable, options: HostOptions) -> None:
        self._engine = engine
        self._streams = streams
        self._options = options

    # Incoming: this host is the destination.

    def prepare(self, message: messages.PrepareStream, now_s: float) -> None:
        """Take a slot and expect the source, or refuse."""
        request_id, epoch = message.spec.request_id, message.epoch
        stream = self._streams.find(request_id, epoch)
        if stream is None and self._streams.make_room(request_id, epoch):
            try:
                stream = self._new_incoming(message, now_s)
            except SllmError as error:
                self._refuse(request_id, epoch, error)
                return
            self._streams.add(stream)
        if stream is not None:
            stream.last_message_at_s = now_s
            self._streams.send(messages.StreamPrepared(request_id, epoch))

    def commit(self, stream: HostStream) -> None:
        """Make a ready stream the request's stream. One that is not ready cannot be committed."""
        if stream.incoming is not None and stream.incoming.machine.released:
            self._streams.commit_incoming(stream)

    def advance_incoming(self, stream: HostStream, now_s: float) -> None:
        """Acknowledge progress after an engine step."""
        incoming = stream.incoming
        if incoming is None:
            return
        try:
            ack = incoming.machine.advance(now_s)
        except SllmError as error:
            self._reject(stream, incoming, error)
            return
        if ack is not None:
            self._streams.add_output(Transmit(incoming.link_id, ack))

    def resend_ready(self, stream: HostStream, now_s: float) -> None:
        """Send StreamReady if it is due."""
        incoming = stream.incoming
        if incoming is None or incoming.resend_at_s is None or now_s < incoming.resend_at_s:
            return
        self._streams.send(
            messages.StreamReady(
                request_id=stream.request_id,
                epoch=stream.epoch,
                num_output=incoming.sequence.num_output,
                num_recomputed=incoming.sequence.num_recomputed,
                num_bytes=incoming.machine.num_bytes,
            )
        )
        incoming.resend_at_s = now_s + self._options.destination.resend_s

    # Outgoing: this host is the source.

    def migrate(self, message: messages.MigrateStream, now_s: float) -> None:
        """Begin to migrate a stream away, or report that it failed."""
        stream = self._streams.find(message.request_id, message.epoch)
        if stream is None:
            self._streams.send(messages.StreamUnknown(message.request_id, message.epoch))
            return
        stream.last_message_at_s = now_s
        if message.new_epoch > stream.last_new_epoch:
            self.cancel(stream, "another migration began")
            stream.last_new_epoch, stream.migration_failure = message.new_epoch, ""
            try:
                self._begin_outgoing(stream, message, now_s)
            except SllmError as error:
                self._log_failure(stream, str(error))
                stream.migration_failure = str(error)
        if message.new_epoch == stream.last_new_epoch and stream.outgoing is None:
            self._send_not_moved(stream)

    def cancel(self, stream: HostStream, reason: str) -> None:
        """Give up the migration away, if there is one."""
        if stream.outgoing is not None:
            stream.outgoing.machine.give_up(reason)
            stream.migration_failure = reason
            self._streams.end_outgoing(stream)

    def advance_outgoing(self, stream: HostStream, now_s: float) -> None:
        """Send what the migration away has to send, or report that it failed."""
        outgoing = stream.outgoing
        if outgoing is None:
            return
        for message in outgoing.machine.advance(now_s):
            self._streams.add_output(Transmit(outgoing.link_id, message))
        failure = outgoing.machine.failure
        if failure is not None:
            self._log_failure(stream, failure)
            self.cancel(stream, failure)
            self._send_not_moved(stream)

    # Both.

    def receive(self, link_id: bytes, message: ToDestination | ToSource, now_s: float) -> None:
        """Take a message from the other host. Ignored if the migration has ended."""
        stream = self._streams.find_by_link(link_id)
        if stream is None:
            return
        if stream.outgoing is not None and isinstance(message, ToSource):
            stream.outgoing.machine.receive(message, now_s)
            self.advance_outgoing(stream, now_s)
        elif stream.incoming is not None and isinstance(message, ToDestination):
            stream.last_message_at_s = now_s
            self._receive_at_destination(stream, stream.incoming, message, now_s)

    def lose_link(self, link_id: bytes, reason: str, now_s: float) -> None:
        """Fail the migration at its source; a destination waits for its owner to decide."""
        stream = self._streams.find_by_link(link_id)
        if stream is None:
            self._streams.add_output(Disconnect(link_id))
        elif stream.outgoing is not None:
            stream.outgoing.machine.give_up(reason)
            self.advance_outgoing(stream, now_s)

    def _new_incoming(self, message: messages.PrepareStream, now_s: float) -> HostStream:
        spec, params = replace(message.spec.unpacked(), output=()), message.params
        self._check_params(params)
        sequence = ArrivingSequence(self._engine, spec, params.replay_tokens)
        machine = MigrationDestination(sequence, self._options.destination, now_s)
        link_id = link_id_of(params.key)
        self._streams.add_output(Expect(link_id, params.key))
        incoming = IncomingMigration(link_id, sequence, machine)
        return HostStream(spec.request_id, message.epoch, now_s, incoming=incoming)

    def _begin_outgoing(
        self, stream: HostStream, message: messages.MigrateStream, now_s: float
    ) -> None:
        if stream.finished is not None:
            raise WrongStateError("the stream has finished")
        if stream.incoming is not None:
            raise WrongStateError("the stream is not committed on this host")
        params = message.params
        self._check_params(params)
        sequence = DepartingSequence(self._engine, stream.request_id, params.replay_tokens)
        sent = Position(0, params.replay_tokens or 0)
        machine = MigrationSource(sequence, sent, self._options.source, now_s)
        link_id = link_id_of(params.key)
        self._streams.add_output(Connect(link_id, params.key, message.destination))
        self._streams.begin_outgoing(stream, OutgoingMigration(link_id, message.new_epoch, machine))
        self.advance_outgoing(stream, now_s)

    def _check_params(self, params: messages.MigrationParams) -> None:
        """Raise WrongModelError if this engine cannot take part, UsageError for invalid values."""
        if len(params.key) < _MIN_KEY_BYTES:
            raise UsageError(f"key must have {_MIN_KEY_BYTES} bytes or more, got {len(params.key)}")
        if params.replay_tokens is not None and params.replay_tokens < 0:
            raise UsageError(f"replay_tokens must be 0 or more, got {params.replay_tokens}")
        engine = self._engine.capabilities
        if params.model != engine.model:
            raise WrongModelError(
                f"the engine has the weights of {engine.model}, the migration is of {params.model}"
            )
        if params.replay_tokens is None:
            return
        if not engine.exports_kv or params.kv_layout != engine.kv_layout:
            raise WrongModelError(
                f"a KV cache of layout {params.kv_layout} cannot be copied from or to "
                f"an engine of layout {engine.kv_layout}; recompute all tokens instead"
            )

    def _receive_at_destination(
        self, stream: HostStream, incoming: IncomingMigration, message: ToDestination, now_s: float
    ) -> None:
        released = incoming.machine.released
        try:
            ack: Ack = incoming.machine.receive(message, now_s)
        except SllmError as error:
            self._reject(stream, incoming, error)
            return
        self._streams.add_output(Transmit(incoming.link_id, ack))
        if incoming.machine.released and not released:
            incoming.resend_at_s = now_s
            self.resend_ready(stream, now_s)

    def _reject(self, stream: HostStream, incoming: IncomingMigration, error: SllmError) -> None:
        self._streams.add_output(Transmit(incoming.link_id, RejectMigration(str(error))))
        self._refuse(stream.request_id, stream.epoch, error)
        self._streams.drop(stream)

    def _refuse(self, request_id: str, epoch: messages.Epoch, error: SllmError) -> None:
        kind = type(error).__name__
        _LOG.info(
            "migration refused by the destination: %s: %s",
            kind,
            error,
            extra={"request": request_id},
        )
        self._streams.send(messages.StreamRefused(request_id, epoch, kind, str(error)))

    def _send_not_moved(self, stream: HostStream) -> None:
        new_epoch = messages.Epoch(stream.last_new_epoch)
        self._streams.send(
            messages.StreamNotMoved(
                stream.request_id, stream.epoch, new_epoch, stream.migration_failure
            )
        )

    @staticmethod
    def _log_failure(stream: HostStream, reason: str) -> None:
        _LOG.info(
            "migration failed at the source, which goes on: %s",
            reason,
            extra={"request": stream.request_id},
        )
