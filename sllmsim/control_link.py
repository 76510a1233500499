"""The line between a driver and its controller: events in order, also those of a down-time."""

from collections import deque
from collections.abc import Callable, Sequence

from simpy.events import Timeout

from sllmcore.commands import Command
from sllmcore.controller import Controller
from sllmcore.errors import ControlError
from sllmcore.events import Event, WakeUp
from sllmcore.wakeup_alarm import WakeupAlarm
from sllmsim.clock import SimClock

Sink = Callable[[float, Event, Sequence[Command]], None]  # a journal, or who else wants to know


class ControlLink:
    """Tells a controller what happens, wakes it when it wants to be, hands on its commands.

    Args:
        heard: Called just before the controller hears of an event.
        execute: Carries a command out. Events that it causes wait until all commands are.
        sinks: Called after each event with the time, the event and the commands it caused.
        rebuild: Makes a controller from what the journal holds, after a crash.
    """

    def __init__(
        self,
        clock: SimClock,
        controller: Controller,
        heard: Callable[[Event], None],
        execute: Callable[[Command], None],
        sinks: Sequence[Sink],
        rebuild: Callable[[], Controller] | None,
    ) -> None:
        self.controller = controller
        self.last_event_at_s = 0.0
        self.num_events = 0
        self._clock = clock
        self._heard = heard
        self._execute = execute
        self._sinks = sinks
        self._rebuild = rebuild
        self._outgoing: deque[Event] = deque()
        self._telling = False
        self._down = False
        self._alarm = WakeupAlarm()
        self._timer: Timeout | None = None

    def tell(self, event: Event) -> None:
        """Tell the controller; carry out what it says before telling it anything else."""
        self._outgoing.append(event)
        if not (self._telling or self._down):
            self._tell_all()

    def crash(self) -> None:
        """The controller dies: events wait, nothing is decided."""
        self._down = True

    def restart(self) -> None:
        """A controller rebuilt from the journal takes over, and hears what has happened since."""
        if self._rebuild is None:
            raise ControlError("a controller crashed and there is no journal to rebuild it from")
        self.controller = self._rebuild()
        self._down = False
        self._alarm.clear()
        self._timer = None
        self._tell_all()

    def _tell_all(self) -> None:
        self._telling = True
        while self._outgoing:
            event = self._outgoing.popleft()
            self._heard(event)
            now_s = self.last_event_at_s = self._clock.now
            self.num_events += 1
            commands = self.controller.handle(event, now_s)
            for sink in self._sinks:
                sink(now_s, event, commands)
            for command in commands:
                self._execute(command)
        self._telling = False
        self._arm()

    def _arm(self) -> None:
        """See that the controller is woken when it wants to be."""
        at_s = self._alarm.set_again(self.controller)
        if at_s is None:
            return
        if self._timer is not None:
            self._clock.cancel(self._timer)
        self._timer = self._clock.call_at(at_s, self._wake)

    def _wake(self, _: object) -> None:
        self._timer = None
        if self._down:
            self._alarm.clear()
        elif self._alarm.fired(self.controller, self._clock.now):
            self.tell(WakeUp())
        else:
            self._arm()
