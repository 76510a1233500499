"""The controller on real time: events in order, each durable before its commands take effect.

An event is handled at once. Events that come while the log is being written share the next write,
and so its cost. Effects happen in the order of the events. From time to time a snapshot of the
state replaces the entries that led to it.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sllmcore.commands import Command
from sllmcore.controller import Controller
from sllmcore.errors import UsageError
from sllmcore.events import Event, WakeUp
from sllmcore.journal import entry_line
from sllmcore.wakeup_alarm import WakeupAlarm
from sllmreal.control.deployment import ModelDeployment
from sllmreal.leader.clock import ClusterClock
from sllmreal.leader.code_version import code_stamp
from sllmreal.leader.event_logging import log_commands, log_event
from sllmreal.leader.log_records import EventLog, LogHeader, LogRecord, ReportId, encoded
from sllmreal.leader.peers import PeerTable
from sllmreal.leader.recovery import Recovered, Recovery, snapshot_of
from sllmreal.leader.state import Effects, LeaderState

APPEND_BYTES = 512 << 10  # of lines appended together; a batch of the log may be twice as long


@dataclass(frozen=True, slots=True)
class Compaction:
    """Length of the log, in entries or bytes, at which a snapshot replaces its entries."""

    every_entries: int = 4_000  # replayed in half a second
    every_bytes: int = 4 << 20

    def __post_init__(self) -> None:
        if self.every_entries < 1 or self.every_bytes < 1:
            raise UsageError(f"every_entries and every_bytes must be positive, got {self}")


class ControlLoop:
    """Has a controller handle events and sends its commands once they are durable.

    Args:
        controller: A controller that has handled no event.
        log: The log of records.
        peer_table: The peers that carry commands out.
        header: The journal's first line, with the settings of the controller.
        compaction: When snapshots replace entries; None: never.

    Attributes:
        clock: The cluster's time.
        sinks: Functions that get each event, its time and its commands when it is handled.
        state: The controller and the peer table.
    """

    def __init__(
        self,
        controller: Controller,
        log: EventLog,
        peer_table: PeerTable,
        header: str,
        compaction: Compaction | None = None,
    ) -> None:
        self.clock = ClusterClock()
        self.sinks: list[Callable[[float, Event, Sequence[Command]], None]] = []
        self.state = LeaderState(controller, peer_table)
        self._log = log
        self._header = header
        self._compaction = compaction
        self._compacting: asyncio.Task[None] | None = None
        self._num_entries = 0  # since the last snapshot
        self._num_bytes = 0
        self._lines: list[str] = []
        self._effects: list[Effects] = []
        self._wanted = asyncio.Event()
        self._waiting: list[asyncio.Future[None]] = []
        self._alarm = WakeupAlarm()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def controller(self) -> Controller:
        return self.state.controller

    @property
    def num_events(self) -> int:
        """The number of events since the cluster began."""
        return self.state.num_events

    @property
    def num_log_keys(self) -> int:
        """The number of keys that the log takes in the store."""
        return self._log.num_keys

    async def recover(self) -> Recovered:
        """Bring controller and peer table to the end of the log; see `Recovery.run`."""
        found = await Recovery(self._log, self.state, self.clock, self._header).run()
        self._num_entries, self._num_bytes = found.num_lines, found.num_bytes
        if found.empty:
            header = LogHeader(self._header, self.clock.zero_at_s, code_stamp())
            self._lines.append(encoded(header))
        self._arm()
        return found

    def handle(
        self,
        event: Event,
        origin: ReportId | None = None,
        model: ModelDeployment | None = None,
        address: str = "",
    ) -> list[Command]:
        """Have the controller handle an event; return its commands.

        They are sent when the record is durable. The other arguments are those of `LogRecord`.
        """
        now_s = self.clock.now_s()
        log_event(event, self.controller.cluster.instances)
        effects, commands = self.state.handle(event, now_s, LogRecord("", origin, model, address))
        log_commands(commands)
        line = entry_line(now_s, event, commands)
        self._lines.append(encoded(LogRecord(line, origin, model, address)))
        self._effects.append(effects)
        self._wanted.set()
        for sink in self.sinks:
            sink(now_s, event, commands)
        self._arm()
        return commands

    async def durable(self) -> None:
        """Return when every event that has been handled so far is in the log."""
        if self._lines:
            waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            await waiting

    async def run(self) -> None:
        """Write records and carry them out until cancelled.

        Raises:
            ClusterError: The log cannot be written; the leadership is over.
        """
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            self._check_compacted()
            lines, self._lines = self._lines, []
            effects, self._effects = self._effects, []
            waiting, self._waiting = self._waiting, []
            snapshot = self._snapshot(lines, effects)
            batch = await self._append(lines)
            for one in waiting:
                if not one.done():
                    one.set_result(None)
            for effect in effects:
                self.state.carry_out(effect)
            if snapshot is not None:
                self._compacting = asyncio.create_task(self._log.compact(snapshot, batch))
                self._compacting.add_done_callback(lambda _: self._wanted.set())

    async def _append(self, lines: list[str]) -> int | None:
        """Append in parts that fit a batch; return the last part's result of `EventLog.append`."""
        batch = None
        part: list[str] = []
        num_bytes = 0
        for line in lines:
            if part and num_bytes + len(line) > APPEND_BYTES:
                batch = await self._log.append(part)
                part, num_bytes = [], 0
            part.append(line)
            num_bytes += len(line)
        return await self._log.append(part) if part else batch

    def _snapshot(self, lines: list[str], effects: list[Effects]) -> bytes | None:
        """Return a snapshot that replaces the log up to these lines; None if it is not due.

        It is taken before they are written, for events that come meanwhile are not part of it.
        """
        self._num_entries += len(lines)
        self._num_bytes += sum(len(line) for line in lines)
        limits = self._compaction
        if not lines or limits is None or self._compacting is not None:
            return None
        if self._num_entries < limits.every_entries and self._num_bytes < limits.every_bytes:
            return None
        self._num_entries = self._num_bytes = 0
        return snapshot_of(self.state, tuple(effects), self.clock, self._header)

    def _check_compacted(self) -> None:
        """Raise the error of the last compaction, if it failed: the leadership is over."""
        if self._compacting is not None and self._compacting.done():
            compacting, self._compacting = self._compacting, None
            compacting.result()

    def _arm(self) -> None:
        """Set the timer for the controller's next wake-up."""
        at_s = self._alarm.set_again(self.controller)
        if at_s is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        delay_s = max(0.0, at_s - self.clock.now_s())
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._wake)

    def _wake(self) -> None:
        self._timer = None
        if self._alarm.fired(self.controller, self.clock.now_s()):
            self.handle(WakeUp())
        else:
            self._arm()

    def close(self) -> None:
        """Cancel the alarm and the compaction."""
        if self._timer is not None:
            self._timer.cancel()
        if self._compacting is not None:
            self._compacting.cancel()
