"""The destination's part of a move: absorb, say how far it is, and release at the final position.

It releases as soon as it knows all, without waiting to be the request's stream: the owner's commit
travels while the first token is computed, and a stream that is not committed is not listened to.
"""

from dataclasses import dataclass

from sllmreal.migration.messages import Ack, Final, LogDelta, StateDelta, ToDestination
from sllmreal.migration.workload import DestinationWorkload


@dataclass(frozen=True, slots=True)
class DestinationOptions:
    """How talkative a destination is."""

    progress_s: float = 0.25  # between reports, while there is progress to report
    resend_s: float = 1.0  # between repetitions of Ready, until the owner answers


class MigrationDestination:
    """One move, from its preparation on."""

    def __init__(
        self, newcomer: DestinationWorkload, options: DestinationOptions, now_s: float
    ) -> None:
        self._newcomer = newcomer
        self._options = options
        self._final: Final | None = None
        self._reported = Ack(0, 0, 0)
        self._reported_at_s = now_s
        self.num_bytes = 0
        self.released = False

    def receive(self, message: ToDestination, now_s: float) -> Ack:
        """Raises BadDeltaError or UsageError: the move is over."""
        if self.released:
            return self._reported
        match message:
            case LogDelta():
                self.num_bytes += message.payload.nbytes
                self._newcomer.absorb(message)
            case StateDelta():
                self.num_bytes += message.num_bytes
                self._newcomer.absorb(message)
            case Final():
                self._final = message
        ack = self._ack(now_s)
        if self._final is not None and self._newcomer.complete(self._final):
            self._newcomer.release()
            self.released = True
        return ack

    def advance(self, now_s: float) -> Ack | None:
        """After a step of the engine: what to tell the source, if it is worth telling."""
        if self.released:
            return None
        self._newcomer.advance()
        ready = self._newcomer.ready
        if ready <= self._reported.ready:
            return None
        if not self._newcomer.settled and now_s < self._reported_at_s + self._options.progress_s:
            return None
        return self._ack(now_s)

    def _ack(self, now_s: float) -> Ack:
        copied = self._newcomer.copied
        self._reported = Ack(copied.log, copied.state, self._newcomer.ready)
        self._reported_at_s = now_s
        return self._reported
