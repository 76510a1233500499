"""The link between the simulated cluster and its controller: events in, commands out, in order."""

from collections import deque
from collections.abc import Callable, Sequence

from simpy.events import Timeout

from sllmcore.commands import Command
from sllmcore.controller import Controller
from sllmcore.errors import ControlError
from sllmcore.events import Event, WakeUp
from sllmcore.wakeup_alarm import WakeupAlarm
from sllmsim.clock import SimClock

Sink = Callable[[float, Event, Sequence[Command]], None]  # a journal, a recorder


class ControlLink:
    """A queue of events for a controller, its wake-up timer, and the way of its commands.

    While the controller is down, events wait.

    Args:
        acknowledge: Called just before the controller handles an event.
        execute: Executes a command. Events that it causes wait until all commands are executed.
        sinks: Called after each event with the time, the event and the commands it caused.
        rebuild: Makes a controller from the journal, after a crash; None: there is no journal.
    """

    def __init__(
        self,
        clock: SimClock,
        controller: Controller,
        acknowledge: Callable[[Event], None],
        execute: Callable[[Command], None],
        sinks: Sequence[Sink],
        rebuild: Callable[[], Controller] | None,
    ) -> None:
        self.controller = controller
        self.last_event_at_s = 0.0
        self.num_events = 0
        self._clock = clock
        self._acknowledge = acknowledge
        self._execute = execute
        self._sinks = sinks
        self._rebuild = rebuild
        self._outgoing: deque[Event] = deque()
        self._handling = False
        self._down = False
        self._alarm = WakeupAlarm()
        self._timer: Timeout | None = None

    def report(self, event: Event) -> None:
        """Let the controller handle an event, after the events reported before it."""
        self._outgoing.append(event)
        if not (self._handling or self._down):
            self._handle_all()

    def crash(self) -> None:
        """Stop the controller."""
        self._down = True

    def restart(self) -> None:
        """Replace the controller by one rebuilt from the journal; it handles the events that wait.

        Raises:
            ControlError: There is no journal.
        """
        if self._rebuild is None:
            raise ControlError("the controller crashed and there is no journal to rebuild it from")
        self.controller = self._rebuild()
        self._down = False
        self._alarm.clear()
        self._timer = None
        self._handle_all()

    def _handle_all(self) -> None:
        self._handling = True
        while self._outgoing:
            event = self._outgoing.popleft()
            self._acknowledge(event)
            now_s = self.last_event_at_s = self._clock.now
            self.num_events += 1
            commands = self.controller.handle(event, now_s)
            for sink in self._sinks:
                sink(now_s, event, commands)
            for command in commands:
                self._execute(command)
        self._handling = False
        self._arm()

    def _arm(self) -> None:
        """Set the timer for the controller's next wake-up."""
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
            self.report(WakeUp())
        else:
            self._arm()
