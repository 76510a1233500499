"""A host's part in moves: as destination (arrivals) and as source (departures)."""

from dataclasses import replace

from sllmcore.errors import SllmError, UsageError
from sllmreal.engine.protocol import Engine
from sllmreal.migration.destination import MigrationDestination
from sllmreal.migration.errors import WrongModelError, WrongStateError
from sllmreal.migration.frames import link_id_of
from sllmreal.migration.messages import Ack, Position, RejectMigration, ToDestination, ToSource
from sllmreal.migration.sequence import ArrivingSequence, DepartingSequence
from sllmreal.migration.source import MigrationSource
from sllmreal.streams import messages as wire
from sllmreal.streams.host_effects import Connect, Disconnect, Expect, Transmit
from sllmreal.streams.host_options import HostOptions
from sllmreal.streams.host_streams import (
    HostStream,
    IncomingMigration,
    OutgoingMigration,
    StreamTable,
)

_MIN_KEY_BYTES = 16


class HostMoves:
    """Moves into and out of one engine."""

    def __init__(self, engine: Engine, streams: StreamTable, options: HostOptions) -> None:
        self._engine = engine
        self._streams = streams
        self._options = options

    def prepare(self, message: wire.PrepareStream, now_s: float) -> None:
        request_id, epoch = message.spec.request_id, message.epoch
        stream = self._streams.find(request_id, epoch)
        if stream is None and self._streams.make_way(request_id, epoch):
            try:
                stream = self._arrival(message, now_s)
            except SllmError as error:
                self._refuse(request_id, epoch, error)
                return
            self._streams.add(stream)
        if stream is not None:
            stream.heard_at_s = now_s
            self._streams.tell(wire.StreamPrepared(request_id, epoch))

    def commit(self, stream: HostStream) -> None:
        """The owner listens to this stream. One that is not ready cannot have been committed."""
        if stream.arrival is not None and stream.arrival.machine.released:
            self._streams.settle_arrival(stream)

    def migrate(self, message: wire.MigrateStream, now_s: float) -> None:
        stream = self._streams.find(message.request_id, message.epoch)
        if stream is None:
            self._streams.tell(wire.StreamUnknown(message.request_id, message.epoch))
            return
        stream.heard_at_s = now_s
        if message.new_epoch > stream.last_move:
            self.stay(stream, "another move began")
            stream.last_move, stream.move_failure = message.new_epoch, ""
            try:
                self._depart(stream, message, now_s)
            except SllmError as error:
                stream.move_failure = str(error)
        if message.new_epoch == stream.last_move and stream.departure is None:
            self._tell_failure(stream)

    def stay(self, stream: HostStream, reason: str) -> None:
        """Give up moving this stream away, if it is."""
        if stream.departure is not None:
            stream.departure.machine.give_up(reason)
            stream.move_failure = reason
            self._streams.leave_departure(stream)

    def receive(self, link_id: bytes, message: ToDestination | ToSource, now_s: float) -> None:
        """From the other host. A message of a move that is over is ignored."""
        stream = self._streams.by_ticket(link_id)
        if stream is None:
            return
        if stream.departure is not None and isinstance(message, ToSource):
            stream.departure.machine.receive(message, now_s)
            self.push(stream, now_s)
        elif stream.arrival is not None and isinstance(message, ToDestination):
            stream.heard_at_s = now_s
            self._absorb(stream, stream.arrival, message, now_s)

    def link_lost(self, link_id: bytes, reason: str, now_s: float) -> None:
        """Fatal for a source; a destination waits for what its owner decides."""
        stream = self._streams.by_ticket(link_id)
        if stream is None:
            self._streams.put(Disconnect(link_id))
        elif stream.departure is not None:
            stream.departure.machine.give_up(reason)
            self.push(stream, now_s)

    def push(self, stream: HostStream, now_s: float) -> None:
        """Let a departure send what it can, or fail."""
        departure = stream.departure
        if departure is None:
            return
        for message in departure.machine.advance(now_s):
            self._streams.put(Transmit(departure.link_id, message))
        if departure.machine.failure is not None:
            self.stay(stream, departure.machine.failure)
            self._tell_failure(stream)

    def stepped(self, stream: HostStream, now_s: float) -> None:
        """The engine has made a step: an arrival may be further."""
        arrival = stream.arrival
        if arrival is None:
            return
        try:
            ack = arrival.machine.advance(now_s)
        except SllmError as error:
            self._reject(stream, arrival, error)
            return
        if ack is not None:
            self._streams.put(Transmit(arrival.link_id, ack))

    def repeat_ready(self, stream: HostStream, now_s: float) -> None:
        arrival = stream.arrival
        if arrival is None or arrival.repeat_at_s is None or now_s < arrival.repeat_at_s:
            return
        newcomer = arrival.newcomer
        self._streams.tell(
            wire.StreamReady(
                stream.request_id,
                stream.epoch,
                newcomer.num_output,
                newcomer.num_recomputed,
                arrival.machine.num_bytes,
            )
        )
        arrival.repeat_at_s = now_s + self._options.destination.resend_s

    def _arrival(self, message: wire.PrepareStream, now_s: float) -> HostStream:
        spec = replace(message.spec.unpacked(), output=())
        self._check_terms(message.terms)
        newcomer = ArrivingSequence(self._engine, spec, message.terms.replay_tokens)
        machine = MigrationDestination(newcomer, self._options.destination, now_s)
        link_id = link_id_of(message.terms.key)
        self._streams.put(Expect(link_id, message.terms.key))
        arrival = IncomingMigration(link_id, newcomer, machine)
        return HostStream(spec.request_id, message.epoch, now_s, arrival=arrival)

    def _depart(self, stream: HostStream, message: wire.MigrateStream, now_s: float) -> None:
        if stream.ending is not None:
            raise WrongStateError("the stream has finished")
        if stream.arrival is not None:
            raise WrongStateError("the stream is not committed here")
        self._check_terms(message.terms)
        terms = message.terms
        migrant = DepartingSequence(self._engine, stream.request_id, terms.replay_tokens)
        sent = Position(0, terms.replay_tokens or 0)
        machine = MigrationSource(migrant, sent, self._options.source, now_s)
        link_id = link_id_of(terms.key)
        self._streams.put(Connect(link_id, terms.key, message.destination))
        self._streams.depart(stream, OutgoingMigration(link_id, message.new_epoch, machine))
        self.push(stream, now_s)

    def _check_terms(self, terms: wire.MigrationParams) -> None:
        """Raises WrongModelError where nothing that moves would fit, UsageError on bad terms."""
        if len(terms.key) < _MIN_KEY_BYTES or (terms.replay_tokens or 0) < 0:
            raise UsageError(f"a key of {len(terms.key)} bytes, replay of {terms.replay_tokens}")
        here = self._engine.capabilities
        if terms.model != here.model:
            raise WrongModelError(f"the weights here are {here.model}, not {terms.model}")
        if terms.replay_tokens is None:
            return
        if not here.exports_kv or terms.kv_layout != here.kv_layout:
            raise WrongModelError(f"a cache of {terms.kv_layout} does not fit {here.kv_layout}")

    def _absorb(
        self, stream: HostStream, arrival: IncomingMigration, message: ToDestination, now_s: float
    ) -> None:
        released = arrival.machine.released
        try:
            ack: Ack = arrival.machine.receive(message, now_s)
        except SllmError as error:
            self._reject(stream, arrival, error)
            return
        self._streams.put(Transmit(arrival.link_id, ack))
        if arrival.machine.released and not released:
            arrival.repeat_at_s = now_s
            self.repeat_ready(stream, now_s)

    def _reject(self, stream: HostStream, arrival: IncomingMigration, error: SllmError) -> None:
        self._streams.put(Transmit(arrival.link_id, RejectMigration(str(error))))
        self._refuse(stream.request_id, stream.epoch, error)
        self._streams.drop(stream)

    def _refuse(self, request_id: str, epoch: wire.Epoch, error: SllmError) -> None:
        self._streams.tell(wire.StreamRefused(request_id, epoch, type(error).__name__, str(error)))

    def _tell_failure(self, stream: HostStream) -> None:
        self._streams.tell(
            wire.StreamNotMoved(
                stream.request_id, stream.epoch, wire.Epoch(stream.last_move), stream.move_failure
            )
        )
