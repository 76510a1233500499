"""StopStream messages that are sent again until their host answers StreamStopped."""

from collections.abc import Iterator
from dataclasses import dataclass

from sllmreal.streams.messages import Epoch


@dataclass(slots=True)
class PendingStop:
    """A stream that its host has to drop, and the event to report when it has."""

    instance_id: str
    epoch: Epoch
    resend_at_s: float
    reports_stopped: bool = False  # the controller waits for InferenceStopped
    failed_move_id: str | None = None  # the controller waits for MigrationFailed
    reason: str = ""  # why that migration failed


class PendingStops:
    """The pending stops of one request, by epoch."""

    def __init__(self, resend_s: float) -> None:
        self._resend_s = resend_s
        self._pending: dict[Epoch, PendingStop] = {}

    def __len__(self) -> int:
        return len(self._pending)

    def __contains__(self, epoch: Epoch) -> bool:
        return epoch in self._pending

    def add(self, stop: PendingStop) -> None:
        """Add a stop; it replaces one of the same epoch."""
        self._pending[stop.epoch] = stop

    def pop(self, epoch: Epoch) -> PendingStop | None:
        """Remove and return the stop of an epoch, if there is one."""
        return self._pending.pop(epoch, None)

    def forget(self, instance_id: str) -> None:
        """Remove the stops of an instance that is lost: its streams are lost too."""
        lost = [epoch for epoch, stop in self._pending.items() if stop.instance_id == instance_id]
        for epoch in lost:
            del self._pending[epoch]

    @property
    def next_resend_s(self) -> float | None:
        """Time of the next resend; None without pending stops."""
        return min((stop.resend_at_s for stop in self._pending.values()), default=None)

    def due(self, now_s: float) -> Iterator[PendingStop]:
        """Yield the stops that are due for resending, and reschedule each."""
        for stop in self._pending.values():
            if now_s >= stop.resend_at_s:
                stop.resend_at_s = now_s + self._resend_s
                yield stop
