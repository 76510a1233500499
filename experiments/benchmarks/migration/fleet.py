"""Engine host processes without a cluster, driven by the caller.

The caller decides which request migrates when, and receives messages and events through a
`HostFleetListener`. The interface is synchronous: the event loop runs only while the caller waits
in `run_until` or `run`.
"""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Protocol, TypeVar

from sllmcore.errors import SllmError
from sllmreal.control.deployment import ModelDeployment
from sllmreal.engine.errors import EngineLostError
from sllmreal.engine.weights import Weights
from sllmreal.streams import messages as wire
from sllmreal.streams.owner import StreamOwner
from sllmreal.streams.owner_io import DeliverTokens, ReportEvent, SendToHost, StreamEvent
from sllmreal.worker.process_options import ProcessOptions
from sllmreal.worker.process_runner import ProcessRunner

_LONGEST_WAIT_S = 0.05
T = TypeVar("T")


class HostFleetListener(Protocol):
    """Receiver of all that happens in a `HostFleet`. Its methods are called while the loop runs."""

    def message_received(self, name: str, message: wire.ToOwner) -> None:
        """Handle a message of a host; the request's `StreamOwner` receives it afterwards."""
        ...

    def host_lost(self, name: str, reason: str) -> None:
        """Handle the end of a host; all `StreamOwner`s have been notified before."""
        ...

    def tokens_delivered(self, request_id: str, tokens: DeliverTokens) -> None:
        """Handle tokens for the client of a request."""
        ...

    def event_reported(self, request_id: str, event: StreamEvent) -> None:
        """Handle an event for the controller."""
        ...


@dataclass(frozen=True, slots=True)
class _HostEnded:
    reason: str


class HostFleet:
    """Engine hosts in processes of their own, each with an engine of `model`; a context manager.

    Attributes:
        online: Hosts that serve, by name.
        owners: `StreamOwner`s by request id. The caller adds and removes them.
    """

    def __init__(
        self, model: ModelDeployment, options: ProcessOptions, listener: HostFleetListener
    ) -> None:
        self.online: dict[str, wire.HostOnline] = {}
        self.owners: dict[str, StreamOwner] = {}
        self._model = model
        self._options = options
        self._listener = listener
        self._loop = asyncio.Runner()
        self._inbox: asyncio.Queue[tuple[str, wire.ToOwner | _HostEnded]] = asyncio.Queue()
        self._to_start: dict[str, Weights | None] = {}
        self._runners: dict[str, ProcessRunner] = {}
        self._host_tasks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> "HostFleet":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._loop:
            self._loop.run(self._end())

    @property
    def names(self) -> list[str]:
        """Names of the hosts that are online or starting."""
        return [*self._runners, *self._to_start]

    def spawn(self, name: str, weights: Weights | None = None) -> None:
        """Start a host the next time the loop runs. It serves once `online` contains it."""
        self._to_start[name] = weights

    def kill(self, name: str) -> None:
        """Send SIGKILL to a host; `HostFleetListener.host_lost` follows. Safe from any thread."""
        self.signal(name, signal.SIGKILL)

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a host's process, if it has one. Safe from any thread."""
        runner = self._runners.get(name)
        if runner is not None and runner.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(runner.pid, number)

    def post(self, name: str, message: wire.ToHost) -> None:
        """Send a message to a host; drop it if there is no such host."""
        runner = self._runners.get(name)
        if runner is not None:
            runner.post(message)

    def run(self, work: Coroutine[object, object, T]) -> T:
        """Run a coroutine in the fleet's event loop and return its result."""
        return self._loop.run(work)

    def run_until(self, done: Callable[[], bool], within_s: float) -> None:
        """Run the loop until `done` returns True.

        Raises EngineLostError if an engine fails, or after `within_s`.
        """
        self._loop.run(self._until(done, within_s))

    def _start_hosts(self) -> None:
        to_start, self._to_start = self._to_start, {}
        for name, weights in to_start.items():
            send = partial(self._enqueue, name)
            runner = ProcessRunner(name, self._model, send, self._options)
            self._runners[name] = runner
            task = asyncio.get_running_loop().create_task(self._run_host(name, runner, weights))
            self._host_tasks.add(task)
            task.add_done_callback(self._host_tasks.discard)

    def _enqueue(self, name: str, message: wire.ToOwner | _HostEnded) -> None:
        self._inbox.put_nowait((name, message))

    async def _run_host(self, name: str, runner: ProcessRunner, weights: Weights | None) -> None:
        try:
            await runner.boot()
            await runner.start(weights)
            reason = await runner.lost()
        except SllmError as error:
            reason = f"{type(error).__name__}: {error}"
        finally:
            await runner.stop()
        self._enqueue(name, _HostEnded(reason))

    async def _end(self) -> None:
        for task in self._host_tasks:
            task.cancel()
        await asyncio.gather(*self._host_tasks, return_exceptions=True)

    async def _until(self, done: Callable[[], bool], within_s: float) -> None:
        deadline_s = time.monotonic() + within_s
        self._carry_out()
        while not done():
            self._start_hosts()
            now_s = time.monotonic()
            if now_s > deadline_s:
                raise EngineLostError(f"the expected state was not reached within {within_s} s")
            with suppress(TimeoutError):
                async with asyncio.timeout(self._wait_s(now_s)):
                    self._handle(*await self._inbox.get())
            for owner in self.owners.values():
                owner.advance(time.monotonic())
            self._carry_out()

    def _wait_s(self, now_s: float) -> float:
        wakeups_s = [owner.next_wakeup_s for owner in self.owners.values()]
        soonest_s = min((at_s for at_s in wakeups_s if at_s is not None), default=now_s + 1.0)
        return min(max(0.0, soonest_s - now_s), _LONGEST_WAIT_S)

    def _handle(self, name: str, message: wire.ToOwner | _HostEnded) -> None:
        match message:
            case _HostEnded(reason):
                del self._runners[name]
                self.online.pop(name, None)
                for owner in self.owners.values():
                    owner.lose_instance(name, time.monotonic())
                self._carry_out()
                self._listener.host_lost(name, reason)
            case wire.EngineFailed(reason):
                raise EngineLostError(f"the engine of {name} failed: {reason}")
            case wire.HostOnline():
                self.online[name] = message
            case wire.HostStatus():
                self._listener.message_received(name, message)
            case _:
                self._listener.message_received(name, message)
                addressed = self.owners.get(message.request_id)
                if addressed is not None:
                    addressed.receive(name, message, time.monotonic())

    def _carry_out(self) -> None:
        for request_id, owner in list(self.owners.items()):
            for output in owner.take_outputs():
                match output:
                    case SendToHost(name, message):
                        self.post(name, message)
                    case DeliverTokens():
                        self._listener.tokens_delivered(request_id, output)
                    case ReportEvent(event):
                        self._listener.event_reported(request_id, event)
