"""The source of a migration: it sends rounds of deltas while the workload runs, then the last gap.

A round has a target, the workload's position at its begin, and ends when the destination reports
that its state needs no more work up to the target. `sllmcore.migration_rounds` decides at which gap
the workload holds.

Every migration ends. A round is finite: only the destination's progress ends it, progress is
bounded by the target, and a migration without progress fails after `stall_s` plus the workload's
time for `report_units`. After the hold the migration is committed, or fails after `hold_s` plus the
workload's time for the gap. A source that fails releases its workload, which runs on.

The deadlines include the workload's own pace because a destination may be silent for one pass over
`report_units`, and computing state again takes no longer than generating it took.
"""

from collections import deque
from dataclasses import dataclass, field

from sllmcore.errors import UsageError
from sllmcore.migration_rounds import MigrationRounds, RoundSettings
from sllmreal.migration.messages import (
    Ack,
    Final,
    LogDelta,
    Position,
    RejectMigration,
    StateDelta,
    ToDestination,
    ToSource,
)
from sllmreal.migration.workload import SourceWorkload


class WorkloadPace:
    """The mean seconds per unit of state, since the migration began.

    Attributes:
        unit_s: Measured up to the last unit observed; 0.0 before the first.
    """

    def __init__(self, began: Position, now_s: float) -> None:
        self._began = self._last = began
        self._began_at_s = now_s
        self.unit_s = 0.0

    def observe(self, position: Position, now_s: float) -> None:
        """Measure, if the workload has made progress."""
        if position.state > self._last.state:
            self._last = position
            self.unit_s = (now_s - self._began_at_s) / (position.state - self._began.state)


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """The rounds, deadlines and message sizes of a source.

    Args:
        rounds: When the workload holds.
        stall_s: A migration fails after this time, plus that of `report_units`, without progress.
        report_units: Most units that a destination computes between two acknowledgements.
        hold_s: A migration fails if it is not committed in this time, plus that of the gap.
        delta_bytes: Largest delta.
        window_bytes: Most bytes sent and not acknowledged.
        resend_s: Unacknowledged deltas are sent again after this time; None: the link loses none.
    """

    rounds: RoundSettings = field(default_factory=RoundSettings)
    stall_s: float = 10.0
    report_units: int = 256
    hold_s: float = 5.0
    delta_bytes: int = 4 << 20
    window_bytes: int = 16 << 20
    resend_s: float | None = None

    def __post_init__(self) -> None:
        if min(self.stall_s, self.hold_s) <= 0:
            raise UsageError(f"stall_s and hold_s must be positive, got {self}")
        if self.window_bytes < self.delta_bytes:
            raise UsageError(f"window_bytes must be at least delta_bytes, got {self}")


@dataclass(frozen=True, slots=True)
class _InFlight:
    upto: Position
    num_bytes: int


class MigrationSource:
    """The source's part of one migration. Call `advance` after each message and at each wake-up.

    Args:
        sent: The position from which on the destination needs deltas.

    Attributes:
        failure: The reason why the migration failed; None: it has not.
    """

    def __init__(
        self, workload: SourceWorkload, sent: Position, options: SourceOptions, now_s: float
    ) -> None:
        self._workload = workload
        self._options = options
        self._sent = self._acked = sent
        self._ready = 0
        self._ack_received = False
        self._in_flight: deque[_InFlight] = deque()
        self._target = workload.position
        self._pace = WorkloadPace(self._target, now_s)
        self._rounds = MigrationRounds(options.rounds)
        self._last_gap = 0
        self._progress_at_s = self._sent_at_s = now_s
        self._held_at_s: float | None = None
        self._final_sent = False
        self.failure: str | None = None

    @property
    def num_rounds(self) -> int:
        """Rounds begun while the workload runs."""
        return self._rounds.num_rounds

    @property
    def target(self) -> Position:
        """The position to which the round under way leads."""
        return self._target

    @property
    def next_wakeup_s(self) -> float | None:
        """The instant at which to call `advance`; None: the migration has failed."""
        if self.failure is not None:
            return None
        wakeup_s = self._deadline_s
        if self._options.resend_s is not None and (self._in_flight or self._final_sent):
            wakeup_s = min(wakeup_s, self._sent_at_s + self._options.resend_s)
        return wakeup_s

    def receive(self, message: ToSource, now_s: float) -> None:
        """Handle a message of the destination. Call `advance` afterwards."""
        if self.failure is not None:
            return
        match message:
            case Ack():
                self._acknowledge(message, now_s)
            case RejectMigration(reason):
                self.give_up(f"the destination refused: {reason}")

    def give_up(self, reason: str) -> None:
        """Fail the migration and let the workload run on.

        Safe at any time: only the stream's owner commits a migration.
        """
        if self.failure is None:
            self.failure = reason
            if self._held_at_s is not None:
                self._workload.release()

    def advance(self, now_s: float) -> list[ToDestination]:
        """Return the messages to send now."""
        if self.failure is None:
            self._pace.observe(self._workload.position, now_s)
            if now_s >= self._deadline_s:
                held = self._held_at_s is not None
                self.give_up("the migration was not committed in time" if held else "no progress")
        if self.failure is not None:
            return []
        self._resend_if_due(now_s)
        if self._held_at_s is None and self._round_ended:
            self._end_round(now_s)
        messages = self._deltas()
        if self._held_at_s is not None and not self._final_sent:
            # Before the last delta, so that the destination does not compute it for another round.
            messages.insert(0, Final(self._target.log, self._target.state))
            self._final_sent = True
        if not messages and not self._ack_received and not self._in_flight:
            messages.append(self._greeting())
        if messages:
            self._sent_at_s = now_s
        return messages

    @property
    def _deadline_s(self) -> float:
        options, unit_s = self._options, self._pace.unit_s
        if self._held_at_s is not None:
            return self._held_at_s + options.hold_s + (self._last_gap + 1) * unit_s
        return self._progress_at_s + options.stall_s + options.report_units * unit_s

    @property
    def _round_ended(self) -> bool:
        return self._acked.log >= self._target.log and self._ready >= self._target.state

    def _end_round(self, now_s: float) -> None:
        position = self._workload.position
        gap = max(position.log - self._target.log, position.state - self._target.state)
        if self._rounds.end(gap):
            self._workload.hold()
            self._held_at_s = now_s
        self._last_gap = gap
        self._target = self._workload.position

    def _deltas(self) -> list[ToDestination]:
        messages: list[ToDestination] = []
        flying = sum(one.num_bytes for one in self._in_flight)
        room = self._options.window_bytes - flying
        while room > 0:
            delta = self._workload.delta(
                self._sent, self._target, min(room, self._options.delta_bytes)
            )
            match delta:
                case None:
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

    def _greeting(self) -> LogDelta:
        """Return an empty delta, which a destination without work acknowledges."""
        self._in_flight.append(_InFlight(self._sent, 0))
        return LogDelta(self._sent.log, self._sent.log, memoryview(b""))

    def _acknowledge(self, ack: Ack, now_s: float) -> None:
        acked = Position(max(ack.log, self._acked.log), max(ack.state, self._acked.state))
        if acked != self._acked or ack.ready > self._ready:
            self._progress_at_s = now_s
        self._ack_received = True
        self._acked = acked
        self._ready = max(self._ready, ack.ready)
        while self._in_flight:
            upto = self._in_flight[0].upto
            if upto.log > acked.log or upto.state > acked.state:
                break
            self._in_flight.popleft()

    def _resend_if_due(self, now_s: float) -> None:
        """Go back to the acknowledged position if the link may have lost the deltas after it."""
        resend_s = self._options.resend_s
        if resend_s is None or now_s < self._sent_at_s + resend_s:
            return
        if self._in_flight or self._final_sent:
            self._in_flight.clear()
            self._sent = self._acked
            self._final_sent = False
