"""The streams of a host: which requests it runs, at which epoch, and what became of them."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from sllmreal.engine.protocol import Engine, FinishReason
from sllmreal.migration.destination import MigrationDestination
from sllmreal.migration.sequence import ArrivingSequence
from sllmreal.migration.source import MigrationSource
from sllmreal.streams.host_effects import Disconnect, Effect, SendToOwner
from sllmreal.streams.messages import Epoch, Tokens, ToOwner

_NUM_REMEMBERED = 4096  # ended streams; far more than messages can be late for


@dataclass(frozen=True, slots=True)
class Ending:
    """A finished stream's output, kept for the owner when the engine has let it go."""

    output: tuple[int, ...]
    reason: FinishReason


@dataclass(slots=True)
class IncomingMigration:
    """A stream being built up here. Its owner has not made it the request's stream yet."""

    link_id: bytes
    newcomer: ArrivingSequence
    machine: MigrationDestination
    repeat_at_s: float | None = None  # Ready


@dataclass(slots=True)
class OutgoingMigration:
    """A stream that another host is taking over."""

    link_id: bytes
    new_epoch: Epoch
    machine: MigrationSource


@dataclass(slots=True, eq=False)
class HostStream:
    """One request at one epoch."""

    request_id: str
    epoch: Epoch
    heard_at_s: float
    ending: Ending | None = None
    arrival: IncomingMigration | None = None
    departure: OutgoingMigration | None = None
    last_move: int = 0  # new epoch of the last move away that was asked for
    move_failure: str = ""  # why that one failed


class StreamTable:
    """At most one stream per request, and the effects of what happens to them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._streams: dict[str, HostStream] = {}
        self._tickets: dict[bytes, HostStream] = {}
        self._ended: OrderedDict[str, Epoch] = OrderedDict()
        self._effects: list[Effect] = []

    def __iter__(self) -> Iterator[HostStream]:
        return iter(list(self._streams.values()))

    def __len__(self) -> int:
        return len(self._streams)

    def find(self, request_id: str, epoch: Epoch) -> HostStream | None:
        stream = self._streams.get(request_id)
        return stream if stream is not None and stream.epoch == epoch else None

    def running(self, request_id: str) -> HostStream:
        return self._streams[request_id]

    def by_ticket(self, link_id: bytes) -> HostStream | None:
        return self._tickets.get(link_id)

    def make_way(self, request_id: str, epoch: Epoch) -> bool:
        """Whether this stream may start: not when it has ended. An older one is dropped for it."""
        if epoch <= self._ended.get(request_id, 0):
            return False
        stream = self._streams.get(request_id)
        if stream is None:
            return True
        if stream.epoch >= epoch:
            return False
        self.drop(stream)
        return True

    def add(self, stream: HostStream) -> None:
        self._streams[stream.request_id] = stream
        if stream.arrival is not None:
            self._tickets[stream.arrival.link_id] = stream

    def depart(self, stream: HostStream, departure: OutgoingMigration) -> None:
        stream.departure = departure
        self._tickets[departure.link_id] = stream

    def finish(self, stream: HostStream, reason: FinishReason) -> None:
        """Free its slot and cache; its output waits for the owner's Stop."""
        stream.ending = Ending(self._engine.output(stream.request_id), reason)
        self._engine.cancel(stream.request_id)
        if stream.departure is not None:
            stream.move_failure = "the source finished"
        self.leave_departure(stream)

    def drop(self, stream: HostStream) -> None:
        """Forget a stream and free all that it holds. Its epoch will not come back."""
        if stream.ending is None:
            self._engine.cancel(stream.request_id)
        self.leave_departure(stream)
        self.leave_arrival(stream)
        del self._streams[stream.request_id]
        self.end(stream.request_id, stream.epoch)

    def end(self, request_id: str, epoch: Epoch) -> None:
        """Remember that this epoch is over, even if it never was here."""
        self._ended[request_id] = max(epoch, self._ended.get(request_id, epoch))
        self._ended.move_to_end(request_id)
        if len(self._ended) > _NUM_REMEMBERED:
            self._ended.popitem(last=False)

    def leave_departure(self, stream: HostStream) -> None:
        if stream.departure is not None:
            self._close(stream.departure.link_id)
            stream.departure = None

    def leave_arrival(self, stream: HostStream) -> None:
        if stream.arrival is not None:
            self._close(stream.arrival.link_id)
            stream.arrival = None

    def settle_arrival(self, stream: HostStream) -> None:
        """The stream is here to stay. Its link is for the source to close: a source that sees it
        closed before it hears of the commit would go on generating for nobody."""
        if stream.arrival is not None:
            del self._tickets[stream.arrival.link_id]
            stream.arrival = None

    def tell_from(self, stream: HostStream, have: int) -> None:
        """Tell the owner all output from that index on, and the end."""
        if stream.ending is not None:
            output, reason = stream.ending.output, stream.ending.reason
        else:
            output, reason = self._engine.output(stream.request_id), None
        have = max(0, have)
        if have < len(output) or reason is not None:
            first = min(have, len(output))
            self.tell(Tokens(stream.request_id, stream.epoch, first, output[first:], reason))

    def tell(self, message: ToOwner) -> None:
        self.put(SendToOwner(message))

    def put(self, effect: Effect) -> None:
        self._effects.append(effect)

    def take_effects(self) -> list[Effect]:
        effects, self._effects = self._effects, []
        return effects

    def _close(self, link_id: bytes) -> None:
        del self._tickets[link_id]
        self.put(Disconnect(link_id))
