"""Engine processes and requests on them, driven without a cluster: who moves what, when, is up to
the caller, who is told all that comes of it.

It is synchronous: its event loop runs while the caller waits in `run_until` or `run`.
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


class FleetListener(Protocol):
    """Told while the fleet runs."""

    def said(self, name: str, message: wire.ToOwner) -> None:
        """A host has said something, of which its request's owner hears next."""
        ...

    def lost(self, name: str, reason: str) -> None:
        """A host has ended, of which all owners have heard."""
        ...

    def delivered(self, request_id: str, tokens: DeliverTokens) -> None: ...

    def reported(self, request_id: str, event: StreamEvent) -> None: ...


@dataclass(frozen=True, slots=True)
class _Lost:
    reason: str


class Fleet:
    """Hosts in processes, each with an engine of `model`, until the context ends.

    `owners` are those of the requests by id; the caller adds and removes them.
    """

    def __init__(
        self, model: ModelDeployment, options: ProcessOptions, listener: FleetListener
    ) -> None:
        self.online: dict[str, wire.HostOnline] = {}
        self.owners: dict[str, StreamOwner] = {}
        self._model = model
        self._options = options
        self._listener = listener
        self._loop = asyncio.Runner()
        self._mail: asyncio.Queue[tuple[str, wire.ToOwner | _Lost]] = asyncio.Queue()
        self._unborn: dict[str, Weights | None] = {}
        self._runners: dict[str, ProcessRunner] = {}
        self._lives: set[asyncio.Task[None]] = set()

    def __enter__(self) -> "Fleet":
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
        """Of the hosts that are online or will be."""
        return [*self._runners, *self._unborn]

    def spawn(self, name: str, weights: Weights | None = None) -> None:
        """Start a host, as soon as the fleet runs; it is there when it is in `online`."""
        self._unborn[name] = weights

    def kill(self, name: str) -> None:
        """SIGKILL; `FleetListener.lost` follows. From any thread."""
        self.signal(name, signal.SIGKILL)

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a host's process, if it still has one. From any thread."""
        runner = self._runners.get(name)
        if runner is not None and runner.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(runner.pid, number)

    def post(self, name: str, message: wire.ToHost) -> None:
        """Say something to a host. Swallowed where there is none."""
        runner = self._runners.get(name)
        if runner is not None:
            runner.post(message)

    def run(self, work: Coroutine[object, object, T]) -> T:
        """Do something in the fleet's event loop."""
        return self._loop.run(work)

    def run_until(self, done: Callable[[], bool], within_s: float) -> None:
        """Handle what comes. Raises EngineLostError when a host breaks or it takes too long."""
        self._loop.run(self._until(done, within_s))

    def _bear(self) -> None:
        """Start those that are to be started."""
        unborn, self._unborn = self._unborn, {}
        for name, weights in unborn.items():
            send = partial(self._hear, name)
            runner = ProcessRunner(name, self._model, send, self._options)
            self._runners[name] = runner
            life = asyncio.get_running_loop().create_task(self._live(name, runner, weights))
            self._lives.add(life)
            life.add_done_callback(self._lives.discard)

    def _hear(self, name: str, mail: wire.ToOwner | _Lost) -> None:
        self._mail.put_nowait((name, mail))

    async def _live(self, name: str, runner: ProcessRunner, weights: Weights | None) -> None:
        try:
            await runner.boot()
            await runner.start(weights)
            reason = await runner.lost()
        except SllmError as error:
            reason = f"{type(error).__name__}: {error}"
        finally:
            await runner.stop()
        self._hear(name, _Lost(reason))

    async def _end(self) -> None:
        for life in self._lives:
            life.cancel()
        await asyncio.gather(*self._lives, return_exceptions=True)

    async def _until(self, done: Callable[[], bool], within_s: float) -> None:
        deadline_s = time.monotonic() + within_s
        self._carry_out()
        while not done():
            self._bear()
            now_s = time.monotonic()
            if now_s > deadline_s:
                raise EngineLostError(f"not done within {within_s} s")
            with suppress(TimeoutError):
                async with asyncio.timeout(self._wait_s(now_s)):
                    self._handle(*await self._mail.get())
            for owner in self.owners.values():
                owner.wakeup(time.monotonic())
            self._carry_out()

    def _wait_s(self, now_s: float) -> float:
        wakeups_s = [owner.next_wakeup_s for owner in self.owners.values()]
        soonest_s = min((at_s for at_s in wakeups_s if at_s is not None), default=now_s + 1.0)
        return min(max(0.0, soonest_s - now_s), _LONGEST_WAIT_S)

    def _handle(self, name: str, mail: wire.ToOwner | _Lost) -> None:
        match mail:
            case _Lost(reason):
                del self._runners[name]
                self.online.pop(name, None)
                for owner in self.owners.values():
                    owner.lost(name, time.monotonic())
                self._carry_out()
                self._listener.lost(name, reason)
            case wire.EngineFailed(reason):
                raise EngineLostError(f"{name} broke: {reason}")
            case wire.HostOnline():
                self.online[name] = mail
            case wire.HostStatus():
                self._listener.said(name, mail)
            case _:
                self._listener.said(name, mail)
                owner_of_it = self.owners.get(mail.request_id)
                if owner_of_it is not None:
                    owner_of_it.receive(name, mail, time.monotonic())

    def _carry_out(self) -> None:
        for request_id, owner in list(self.owners.items()):
            for output in owner.take_outputs():
                match output:
                    case SendToHost(name, message):
                        self.post(name, message)
                    case DeliverTokens():
                        self._listener.delivered(request_id, output)
                    case ReportEvent(event):
                        self._listener.reported(request_id, event)
