"""The streams of a host: running, finished, and those that migrate in or out."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from sllmreal.engine.protocol import Engine, FinishReason
from sllmreal.migration.destination import MigrationDestination
from sllmreal.migration.sequence import ArrivingSequence
from sllmreal.migration.source import MigrationSource
from sllmreal.streams.host_io import Disconnect, HostOutput, SendToOwner
from sllmreal.streams.messages import Epoch, Tokens, ToOwner

_NUM_REMEMBERED = 4096  # ended streams; far more than messages can be late for


@dataclass(frozen=True, slots=True)
class FinishedOutput:
    """The output of a finished stream, kept for the owner after the engine has released it."""

    tokens: tuple[int, ...]
    reason: FinishReason
    logprobs: bytes = b""


@dataclass(slots=True)
class IncomingMigration:
    """A migration to this host that is not committed."""

    link_id: bytes
    sequence: ArrivingSequence
    machine: MigrationDestination
    resend_at_s: float | None = None  # of StreamReady; None until it is ready


@dataclass(slots=True)
class OutgoingMigration:
    """A migration away from this host."""

    link_id: bytes
    new_epoch: Epoch
    machine: MigrationSource


@dataclass(slots=True, eq=False)
class HostStream:
    """The stream of a request at one epoch."""

    request_id: str
    epoch: Epoch
    last_message_at_s: float  # from the owner, or from the source while it migrates in
    finished: FinishedOutput | None = None
    incoming: IncomingMigration | None = None
    outgoing: OutgoingMigration | None = None
    last_new_epoch: int = 0  # `new_epoch` of the last MigrateStream or CancelMigration
    migration_failure: str = ""  # why that migration failed


class StreamTable:
    """At most one stream per request, and the outputs that the caller has not taken."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._streams: dict[str, HostStream] = {}
        self._by_link: dict[bytes, HostStream] = {}
        self._ended: OrderedDict[str, Epoch] = OrderedDict()
        self._outputs: list[HostOutput] = []

    def __iter__(self) -> Iterator[HostStream]:
        return iter(list(self._streams.values()))

    def __len__(self) -> int:
        return len(self._streams)

    def find(self, request_id: str, epoch: Epoch) -> HostStream | None:
        """Return the stream of a request at an epoch, if the host holds it."""
        stream = self._streams.get(request_id)
        return stream if stream is not None and stream.epoch == epoch else None

    def find_by_link(self, link_id: bytes) -> HostStream | None:
        """Return the stream that migrates over a link."""
        return self._by_link.get(link_id)

    def of_request(self, request_id: str) -> HostStream:
        """Return the stream of a request that the host is known to hold."""
        return self._streams[request_id]

    def make_room(self, request_id: str, epoch: Epoch) -> bool:
        """Return True if a stream may start here; drop an older stream of the request first.

        A stream that has ended, or is older than the present one, may not start.
        """
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
        """Add a stream; its request has no other stream here."""
        self._streams[stream.request_id] = stream
        if stream.incoming is not None:
            self._by_link[stream.incoming.link_id] = stream

    def finish(self, stream: HostStream, reason: FinishReason) -> None:
        """Release the stream's slot and cache. Its output is kept until StopStream."""
        output = self._engine.output(stream.request_id)
        logprobs = self._engine.logprobs(stream.request_id)
        stream.finished = FinishedOutput(output, reason, logprobs)
        self._engine.cancel(stream.request_id)
        if stream.outgoing is not None:
            stream.migration_failure = "the source finished"
        self.end_outgoing(stream)

    def drop(self, stream: HostStream) -> None:
        """Remove a stream and release all that it holds. Its epoch cannot start again."""
        if stream.finished is None:
            self._engine.cancel(stream.request_id)
        self.end_outgoing(stream)
        self._end_incoming(stream)
        del self._streams[stream.request_id]
        self.mark_ended(stream.request_id, stream.epoch)

    def mark_ended(self, request_id: str, epoch: Epoch) -> None:
        """Remember that this epoch has ended, even if it never was here."""
        self._ended[request_id] = max(epoch, self._ended.get(request_id, epoch))
        self._ended.move_to_end(request_id)
        if len(self._ended) > _NUM_REMEMBERED:
            self._ended.popitem(last=False)

    def begin_outgoing(self, stream: HostStream, outgoing: OutgoingMigration) -> None:
        """Attach a migration away from this host."""
        stream.outgoing = outgoing
        self._by_link[outgoing.link_id] = stream

    def end_outgoing(self, stream: HostStream) -> None:
        """Detach the migration away from this host, if there is one, and close its link."""
        if stream.outgoing is not None:
            self._close(stream.outgoing.link_id)
            stream.outgoing = None

    def commit_incoming(self, stream: HostStream) -> None:
        """Detach a committed migration to this host, and leave its link open.

        The source closes the link: if it saw the link closed before it received StopStream, it
        would fail the migration and generate tokens that its owner refuses.
        """
        if stream.incoming is not None:
            del self._by_link[stream.incoming.link_id]
            stream.incoming = None

    def _end_incoming(self, stream: HostStream) -> None:
        if stream.incoming is not None:
            self._close(stream.incoming.link_id)
            stream.incoming = None

    def send_output(self, stream: HostStream, first: int) -> None:
        """Send the owner the output tokens from index `first` on, and the finish if any."""
        if stream.finished is not None:
            tokens, reason = stream.finished.tokens, stream.finished.reason
            logprobs = stream.finished.logprobs
        else:
            tokens, reason = self._engine.output(stream.request_id), None
            logprobs = self._engine.logprobs(stream.request_id)
        first = max(0, first)
        if first < len(tokens) or reason is not None:
            first = min(first, len(tokens))
            records = logprobs[first * (len(logprobs) // max(1, len(tokens))) :]
            self.send(
                Tokens(
                    request_id=stream.request_id,
                    epoch=stream.epoch,
                    first=first,
                    tokens=tokens[first:],
                    finish=reason,
                    logprobs=records,
                )
            )

    def send(self, message: ToOwner) -> None:
        """Add a SendToOwner to the outputs."""
        self.add_output(SendToOwner(message))

    def add_output(self, output: HostOutput) -> None:
        self._outputs.append(output)

    def take_outputs(self) -> list[HostOutput]:
        """Return the outputs since the last call, in order."""
        outputs, self._outputs = self._outputs, []
        return outputs

    def _close(self, link_id: bytes) -> None:
        del self._by_link[link_id]
        self.add_output(Disconnect(link_id))
