"""A host without thread, clock or socket: an engine, its streams, and the moves they are part of.

Messages and the time go in, effects come out. Everything about a stream is idempotent, for the
owner repeats itself: a stream is known by its request and epoch, a higher epoch replaces a lower
one, and an epoch that has ended does not come back.

Whoever runs it calls `engine.step()` while `has_work`, and then `stepped`.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import assert_never

from sllmcore.errors import SllmError
from sllmreal.engine.protocol import Engine, OutputToken
from sllmreal.migration.messages import ToDestination, ToSource
from sllmreal.streams import messages as wire
from sllmreal.streams.host_effects import Effect
from sllmreal.streams.host_moves import HostMoves
from sllmreal.streams.host_options import HostOptions
from sllmreal.streams.host_streams import HostStream, StreamTable


class HostCore:
    """One engine and its streams."""

    def __init__(self, engine: Engine, options: HostOptions | None = None) -> None:
        self.engine = engine
        self._options = options or HostOptions()
        self._streams = StreamTable(engine)
        self._moves = HostMoves(engine, self._streams, self._options)

    @property
    def has_work(self) -> bool:
        return self.engine.has_work

    @property
    def num_streams(self) -> int:
        return len(self._streams)

    @property
    def next_wakeup_s(self) -> float | None:
        """When to call `wakeup`, at the latest."""
        times_s: list[float] = []
        for stream in self._streams:
            times_s.append(stream.heard_at_s + self._options.lease_s)
            if stream.arrival is not None and stream.arrival.repeat_at_s is not None:
                times_s.append(stream.arrival.repeat_at_s)
            if stream.departure is not None:
                wakeup_s = stream.departure.machine.next_wakeup_s
                times_s += [] if wakeup_s is None else [wakeup_s]
        return min(times_s, default=None)

    def receive(self, message: wire.ToHost, now_s: float) -> None:
        """From the owner."""
        match message:
            case wire.StartStream():
                self._start(message, now_s)
            case wire.PrepareStream():
                self._moves.prepare(message, now_s)
            case wire.MigrateStream():
                self._moves.migrate(message, now_s)
            case wire.StopStream(request_id, epoch):
                self._stop(request_id, epoch)
            case wire.PollStream() | wire.CommitStream() | wire.CancelMigration():
                self._about(message, now_s)
            case wire.GetHostStatus():
                self._streams.tell(wire.HostStatus(len(self._streams), self.engine.statistics()))
            case wire.Shutdown():
                for stream in self._streams:
                    self._streams.drop(stream)
            case _:
                assert_never(message)

    def receive_from_host(
        self, link_id: bytes, message: ToDestination | ToSource, now_s: float
    ) -> None:
        """Over the link of a move."""
        self._moves.receive(link_id, message, now_s)

    def link_lost(self, link_id: bytes, reason: str, now_s: float) -> None:
        """A link is down, or could not be made."""
        self._moves.link_lost(link_id, reason, now_s)

    def stepped(self, outputs: Sequence[OutputToken], now_s: float) -> None:
        """The engine has made a step, and this came out."""
        grouped: dict[str, list[OutputToken]] = defaultdict(list)
        for output in outputs:
            grouped[output.request_id].append(output)
        for request_id, tokens in grouped.items():
            self._generated(self._streams.running(request_id), tokens)
        for stream in self._streams:
            self._moves.stepped(stream, now_s)

    def wakeup(self, now_s: float) -> None:
        """The time that `next_wakeup_s` asked for may have come."""
        for stream in self._streams:
            if now_s >= stream.heard_at_s + self._options.lease_s:
                self._streams.drop(stream)
                continue
            self._moves.repeat_ready(stream, now_s)
            self._moves.push(stream, now_s)

    def take_effects(self) -> list[Effect]:
        """What is to be done, in this order, since the last call."""
        return self._streams.take_effects()

    def _start(self, message: wire.StartStream, now_s: float) -> None:
        request_id, epoch = message.spec.request_id, message.epoch
        if not self._streams.make_way(request_id, epoch):
            return
        try:
            spec = message.spec.unpacked()
            self.engine.start(spec)
        except SllmError as error:
            refused = wire.StreamRefused(request_id, epoch, type(error).__name__, str(error))
            self._streams.tell(refused)
            return
        stream = HostStream(request_id, epoch, now_s)
        self._streams.add(stream)
        finish = self.engine.progress(request_id).finish
        if finish is not None:  # the output that came with it was complete
            self._streams.finish(stream, finish)
            self._streams.tell_from(stream, len(spec.output))

    def _stop(self, request_id: str, epoch: wire.Epoch) -> None:
        stream = self._streams.find(request_id, epoch)
        num_output = None
        if stream is not None:
            if stream.ending is not None:
                num_output = len(stream.ending.output)
            else:
                num_output = self.engine.progress(request_id).num_output
            self._streams.drop(stream)
        self._streams.end(request_id, epoch)
        self._streams.tell(wire.StreamStopped(request_id, epoch, num_output))

    def _about(
        self, message: wire.PollStream | wire.CommitStream | wire.CancelMigration, now_s: float
    ) -> None:
        stream = self._streams.find(message.request_id, message.epoch)
        if stream is None:
            self._streams.tell(wire.StreamUnknown(message.request_id, message.epoch))
            return
        stream.heard_at_s = now_s
        match message:
            case wire.CancelMigration(_, _, new_epoch):
                if stream.departure is not None and stream.departure.new_epoch == new_epoch:
                    self._moves.stay(stream, "the owner called it off")
                stream.last_move = max(stream.last_move, new_epoch)
            case wire.CommitStream(_, _, have):
                self._moves.commit(stream)
                self._streams.tell_from(stream, have)
            case wire.PollStream(_, _, have):
                if stream.arrival is None:
                    self._streams.tell_from(stream, have)

    def _generated(self, stream: HostStream, tokens: list[OutputToken]) -> None:
        finish = tokens[-1].finish
        numbers = tuple(token.token for token in tokens)
        if finish is not None:
            self._streams.finish(stream, finish)
        self._streams.tell(
            wire.Tokens(stream.request_id, stream.epoch, tokens[0].index, numbers, finish)
        )
