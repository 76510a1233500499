"""The controller on real time: events in order, each durable before its commands take effect.

Events that come while the log is being written are handled at once and written together next time,
so that the cost of a durable write is shared. The order of effects is the order of events.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

from sllmcore.commands import Command
from sllmcore.controller import Controller
from sllmcore.errors import ClusterError
from sllmcore.events import Event, WakeUp
from sllmcore.journal import JournalReader, entry_line
from sllmreal.cluster.orders import Due
from sllmreal.cluster.record import Header, Log, Origin, Record, decoded, encoded
from sllmreal.cluster.roster import PeerState, Roster
from sllmreal.protocol.model import ModelSpec


@dataclass(frozen=True, slots=True)
class _Effects:
    """What may happen once a record is durable."""

    origin: Origin | None
    routed: Sequence[tuple[PeerState, Due]]


class Clock:
    """Seconds since the log began, by the wall clock that all machines share; never back."""

    def __init__(self) -> None:
        self.zero_at_s = time.time()
        self._last_s = 0.0

    def continue_from(self, zero_at_s: float, now_s: float) -> None:
        """Go on where another leader's clock stood, or later."""
        self.zero_at_s = zero_at_s
        self._last_s = now_s

    def now_s(self) -> float:
        self._last_s = max(self._last_s, time.time() - self.zero_at_s)
        return self._last_s


class ControlLoop:
    """Tells a controller what happens and has its commands carried out.

    Args:
        controller: Fresh, or as `recover` leaves it.
        log: Where records go before they take effect.
        roster: Whom commands are for.
        header: The journal's first line, which says how the controller was made.
    """

    def __init__(self, controller: Controller, log: Log, roster: Roster, header: str) -> None:
        self.controller = controller
        self.clock = Clock()
        self.num_events = 0
        self.sinks: list[Callable[[float, Event, Sequence[Command]], None]] = []
        self._log = log
        self._roster = roster
        self._header = header
        self._lines: list[str] = []
        self._effects: list[_Effects] = []
        self._wanted = asyncio.Event()
        self._waiting: list[asyncio.Future[None]] = []
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at_s = inf

    async def recover(self) -> int:
        """Bring controller and roster to where the log ends; the number of events replayed.

        Raises ClusterError when the log was written by a controller that decides otherwise.
        """
        reader = JournalReader([self._header])
        header: Header | None = None
        last_s = 0.0
        async for line in self._log.lines():
            if header is None:
                header = self._checked(decoded(line, Header))
            else:
                last_s = self._replay(decoded(line, Record), reader)
        if header is None:
            self._lines.append(encoded(Header(self._header, self.clock.zero_at_s)))
        else:
            self.clock.continue_from(header.zero_at_s, last_s)
        self._arm()
        return self.num_events

    def _checked(self, header: Header) -> Header:
        if header.line != self._header:
            raise ClusterError(f"the log belongs to another policy: {header.line[:200]}")
        return header

    def _replay(self, record: Record, reader: JournalReader) -> float:
        entry = reader.entry(record.line, self.num_events + 2)
        effects, commands = self._handle(entry.event, entry.now_s, record)
        if tuple(commands) != entry.commands:
            raise ClusterError(f"entry {self.num_events} of the log is decided otherwise here")
        for peer, due in effects.routed:
            self._roster.send(peer, due)
        return entry.now_s

    def tell(
        self,
        event: Event,
        origin: Origin | None = None,
        model: ModelSpec | None = None,
        address: str = "",
    ) -> list[Command]:
        """Have the controller hear of an event; its commands follow when the record is durable.

        The other arguments are those of the `Record`.
        """
        now_s = self.clock.now_s()
        record = Record("", origin, model, address)
        effects, commands = self._handle(event, now_s, record)
        line = entry_line(now_s, event, commands)
        self._lines.append(encoded(Record(line, origin, model, address)))
        self._effects.append(effects)
        self._wanted.set()
        for sink in self.sinks:
            sink(now_s, event, commands)
        self._arm()
        return commands

    async def durable(self) -> None:
        """Return when everything that was told so far is in the log."""
        if self._lines:
            waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            await waiting

    async def run(self) -> None:
        """Write and carry out until cancelled. Raises what the log raises: this leader is over."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            lines, self._lines = self._lines, []
            effects, self._effects = self._effects, []
            waiting, self._waiting = self._waiting, []
            await self._log.append(lines)
            for one in waiting:
                if not one.done():
                    one.set_result(None)
            for effect in effects:
                self._carry_out(effect)

    def _handle(self, event: Event, now_s: float, record: Record) -> tuple[_Effects, list[Command]]:
        self.num_events += 1
        self._roster.note_event(event, record)
        commands = self.controller.handle(event, now_s)
        routed = self._roster.note_commands(commands)
        self._roster.note_end(event, self.controller.cluster.tickets)
        return _Effects(record.origin, routed), commands

    def _carry_out(self, effects: _Effects) -> None:
        if effects.origin is not None:
            self._roster.acknowledge(effects.origin)
        for peer, due in effects.routed:
            self._roster.send(peer, due)

    def _arm(self) -> None:
        """See that the controller is woken when it wants to be."""
        if self._alarm_at_s <= self.controller.wakeup_not_before_s:
            return
        at_s = self.controller.next_wakeup_s()
        if at_s is None or self._alarm_at_s <= at_s:
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at_s = at_s
        delay_s = max(0.0, at_s - self.clock.now_s())
        self._alarm = asyncio.get_running_loop().call_later(delay_s, self._wake)

    def _wake(self) -> None:
        self._alarm, self._alarm_at_s = None, inf
        at_s = self.controller.next_wakeup_s()
        if at_s is not None and at_s <= self.clock.now_s():
            self.tell(WakeUp())
        else:
            self._arm()

    def close(self) -> None:
        """No more wake-ups."""
        if self._alarm is not None:
            self._alarm.cancel()
