"""Streams that a host is told to stop, until it says that they are gone."""

from collections.abc import Iterator
from dataclasses import dataclass

from sllmreal.streams.messages import Epoch, StopStream


@dataclass(slots=True)
class PendingStop:
    """A stream that is not wanted any more, and who waits to hear of its end."""

    instance_id: str
    message: StopStream
    repeat_at_s: float
    stopping: bool = False  # the controller has said Stop
    move_id: str | None = None  # a move that failed: it ends when its destination is clean
    reason: str = ""


class PendingStops:
    """The streams of one request that are being stopped, by epoch."""

    def __init__(self, resend_s: float) -> None:
        self._resend_s = resend_s
        self._open: dict[Epoch, PendingStop] = {}

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, epoch: Epoch) -> bool:
        return epoch in self._open

    def add(self, farewell: PendingStop) -> None:
        self._open[farewell.message.epoch] = farewell

    def pop(self, epoch: Epoch) -> PendingStop | None:
        return self._open.pop(epoch, None)

    def forget(self, instance_id: str) -> None:
        """The instance is gone, and its streams with it."""
        gone = [epoch for epoch, one in self._open.items() if one.instance_id == instance_id]
        for epoch in gone:
            del self._open[epoch]

    @property
    def next_repeat_s(self) -> float | None:
        return min((one.repeat_at_s for one in self._open.values()), default=None)

    def due(self, now_s: float) -> Iterator[PendingStop]:
        """Those to be said again, each marked as said."""
        for farewell in self._open.values():
            if now_s >= farewell.repeat_at_s:
                farewell.repeat_at_s = now_s + self._resend_s
                yield farewell
