"""The destination of a migration: it absorbs deltas until the final position, then releases.

It releases its workload as soon as it has all deltas, before the migration is committed: the commit
travels while the first token is computed, and the owner ignores a stream that is not committed.
"""

from dataclasses import dataclass

from sllmreal.migration.messages import Ack, Final, LogDelta, StateDelta, ToDestination
from sllmreal.migration.workload import DestinationWorkload


@dataclass(frozen=True, slots=True)
class DestinationOptions:
    """The intervals between a destination's messages.

    Args:
        progress_s: Between acknowledgements, while there is progress.
        resend_s: Between repetitions of Ready, until the owner answers.
    """

    progress_s: float = 0.25
    resend_s: float = 1.0


class MigrationDestination:
    """The destination's part of one migration, from its preparation on.

    Attributes:
        num_bytes: Bytes of the deltas received.
        released: The workload runs here.
    """

    def __init__(
        self, workload: DestinationWorkload, options: DestinationOptions, now_s: float
    ) -> None:
        self._workload = workload
        self._options = options
        self._final: Final | None = None
        self._reported = Ack(0, 0, 0)
        self._reported_at_s = now_s
        self.num_bytes = 0
        self.released = False

    def receive(self, message: ToDestination, now_s: float) -> Ack:
        """Handle a message of the source. Return the acknowledgement to send.

        Raises:
            BadDeltaError: The delta is wrong; the migration has failed.
            UsageError: Likewise, found by the engine.
        """
        if self.released:
            return self._reported
        match message:
            case LogDelta():
                self.num_bytes += message.payload.nbytes
                self._workload.absorb(message)
            case StateDelta():
                self.num_bytes += message.num_bytes
                self._workload.absorb(message)
            case Final():
                self._final = message
        ack = self._ack(now_s)
        if self._final is not None and self._workload.complete(self._final):
            self._workload.release()
            self.released = True
        return ack

    def advance(self, now_s: float) -> Ack | None:
        """Continue after a step of the engine. Return an acknowledgement if one is due."""
        if self.released:
            return None
        self._workload.advance()
        ready = self._workload.ready
        if ready <= self._reported.ready:
            return None
        if not self._workload.settled and now_s < self._reported_at_s + self._options.progress_s:
            return None
        return self._ack(now_s)

    def _ack(self, now_s: float) -> Ack:
        copied = self._workload.copied
        self._reported = Ack(copied.log, copied.state, self._workload.ready)
        self._reported_at_s = now_s
        return self._reported
