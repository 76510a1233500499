"""The source's part of a move: rounds of deltas while the workload goes on, then the last ones.

A round sends what lies between the destination's position and the workload's, and ends when the
destination says that this much needs no more work. The gap is what the workload did meanwhile:

    gap <= final_gap, or gap > shrink * the gap before, or max_rounds reached
        => hold; send the gap; Final
    else another round

It ends: at most `max_rounds` rounds, each of a fixed target that only the destination's progress
brings nearer. Without progress for `stall_s` the move fails, and progress is bounded by the
target, so a round is finite; after the hold the move is committed or fails within `hold_s`.
A failed source has released its workload: it goes on as if nothing had been.
"""

from collections import deque
from dataclasses import dataclass

from sllmcore.errors import UsageError
from sllmreal.migration.messages import (
    Ack,
    Final,
    LogDelta,
    Position,
    Reject,
    StateDelta,
    ToDestination,
    ToSource,
)
from sllmreal.migration.migrant import Migrant


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How patient a source is."""

    final_gap: int = 16  # about what one forward pass computes at the price of one token
    shrink: float = 0.7
    max_rounds: int = 10
    stall_s: float = 10.0  # without any progress of the destination
    hold_s: float = 5.0  # from holding to being committed
    delta_bytes: int = 4 << 20
    window_bytes: int = 16 << 20  # sent and not acknowledged
    resend_s: float | None = None  # for links that lose messages

    def __post_init__(self) -> None:
        if self.max_rounds < 1 or self.final_gap < 0 or not 0 < self.shrink <= 1:
            raise UsageError(f"max_rounds >= 1, final_gap >= 0, shrink in (0, 1], got {self}")
        if min(self.stall_s, self.hold_s) <= 0 or self.window_bytes < self.delta_bytes:
            raise UsageError(f"deadlines must be positive, a window hold a delta, got {self}")


@dataclass(frozen=True, slots=True)
class _InFlight:
    upto: Position
    num_bytes: int


class Source:
    """One move, from its start on. `advance` after every message and at every wake-up."""

    def __init__(
        self, migrant: Migrant, sent: Position, options: SourceOptions, now_s: float
    ) -> None:
        self._migrant = migrant
        self._options = options
        self._sent = self._acked = sent
        self._ready = 0
        self._in_flight: deque[_InFlight] = deque()
        self._target = migrant.position
        self._last_gap: int | None = None
        self._heard_at_s = self._sent_at_s = now_s
        self._held_at_s: float | None = None
        self._all_sent = False
        self._final_sent = False
        self.num_rounds = 1
        self.failure: str | None = None

    @property
    def next_wakeup_s(self) -> float | None:
        if self.failure is not None:
            return None
        wakeup_s = self._deadline_s()
        if self._options.resend_s is not None and (self._in_flight or self._final_sent):
            wakeup_s = min(wakeup_s, self._sent_at_s + self._options.resend_s)
        return wakeup_s

    def receive(self, message: ToSource, now_s: float) -> None:
        if self.failure is not None:
            return
        match message:
            case Ack():
                self._acknowledge(message, now_s)
            case Reject(reason):
                self.give_up(f"the destination refused: {reason}")

    def give_up(self, reason: str) -> None:
        """Let the workload go on. Safe at any time: only the owner's word moves the stream."""
        if self.failure is None:
            self.failure = reason
            if self._held_at_s is not None:
                self._migrant.release()

    def advance(self, now_s: float) -> list[ToDestination]:
        """What to send."""
        if self.failure is None and now_s >= self._deadline_s():
            waited = "to be committed" if self._held_at_s is not None else "for progress"
            self.give_up(f"waited too long {waited}")
        if self.failure is not None:
            return []
        self._resend_if_due(now_s)
        if self._held_at_s is None and self._round_ended:
            self._end_round(now_s)
        messages = self._deltas()
        if self._held_at_s is not None and not self._final_sent and self._all_sent:
            messages.append(Final(self._target.log, self._target.state))
            self._final_sent = True
        if messages:
            self._sent_at_s = now_s
        return messages

    def _deadline_s(self) -> float:
        if self._held_at_s is not None:
            return self._held_at_s + self._options.hold_s
        return self._heard_at_s + self._options.stall_s

    @property
    def _round_ended(self) -> bool:
        return self._acked.log >= self._target.log and self._ready >= self._target.state

    def _end_round(self, now_s: float) -> None:
        position = self._migrant.position
        gap = max(position.log - self._target.log, position.state - self._target.state)
        stuck = self._last_gap is not None and gap > self._options.shrink * self._last_gap
        if gap <= self._options.final_gap or stuck or self.num_rounds >= self._options.max_rounds:
            self._migrant.hold()
            self._held_at_s = now_s
            self._target = self._migrant.position
            return
        self._last_gap = gap
        self._target = position
        self.num_rounds += 1

    def _deltas(self) -> list[ToDestination]:
        messages: list[ToDestination] = []
        flying = sum(one.num_bytes for one in self._in_flight)
        room = self._options.window_bytes - flying
        self._all_sent = False
        while room > 0:
            delta = self._migrant.delta(
                self._sent, self._target, min(room, self._options.delta_bytes)
            )
            match delta:
                case None:
                    self._all_sent = True
                    break
                case LogDelta():
                    num_bytes = delta.payload.nbytes
                    self._sent = Position(delta.upto, self._sent.state)
                case StateDelta():
                    num_bytes = delta.num_bytes
                    self._sent = Position(self._sent.log, delta.end)
            self._in_flight.append(_InFlight(self._sent, num_bytes))
            room -= num_bytes
            messages.append(delta)
        return messages

    def _acknowledge(self, ack: Ack, now_s: float) -> None:
        acked = Position(max(ack.log, self._acked.log), max(ack.state, self._acked.state))
        if acked != self._acked or ack.ready > self._ready:
            self._heard_at_s = now_s
        self._acked = acked
        self._ready = max(self._ready, ack.ready)
        while self._in_flight:
            upto = self._in_flight[0].upto
            if upto.log > acked.log or upto.state > acked.state:
                break
            self._in_flight.popleft()

    def _resend_if_due(self, now_s: float) -> None:
        """Go back to what the destination has, where the link may have lost the rest."""
        resend_s = self._options.resend_s
        if resend_s is None or now_s < self._sent_at_s + resend_s:
            return
        if self._in_flight or self._final_sent:
            self._in_flight.clear()
            self._sent = self._acked
            self._final_sent = False
