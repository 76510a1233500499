"""A small driver: owners of several requests, over hosts in processes that may be killed.

It stands where a worker and a controller stand: starts requests, asks for moves, notices exits,
and starts again elsewhere what was interrupted.
"""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from types import TracebackType

from sllmcore.events import (
    InferenceFailed,
    InferenceFinished,
    InferenceStopped,
    MigrationFailed,
    MigrationFinished,
)
from sllmreal.engine import wire
from sllmreal.engine.host_options import HostOptions
from sllmreal.engine.process import HostProcess, HostSettings, encoded
from sllmreal.engine.protocol import SequenceSpec
from sllmreal.engine.timed import Pace, TimedOptions
from sllmreal.migration.destination import DestinationOptions
from sllmreal.migration.orders import Deliver, MoveOrder, OwnerOptions, Report, Send
from sllmreal.migration.owner import StreamOwner
from sllmreal.migration.source import SourceOptions
from tests.migration.samples import KV_LAYOUT

PACE = Pace(decode_step_s=0.001, prefill_token_s=0.00002)
SETTINGS = HostSettings(
    "timed",
    encoded(TimedOptions(pace=PACE, num_slots=16)),
    options=HostOptions(
        lease_s=5.0,
        source=SourceOptions(final_gap=4, stall_s=0.6, hold_s=0.4),
        destination=DestinationOptions(resend_s=0.2),
    ),
)
OWNER = OwnerOptions(poll_s=0.5, resend_s=0.2, move_s=3.0)


@dataclass(frozen=True, slots=True)
class _Exit:
    code: int


class Request:
    """A request and what its client has."""

    def __init__(self, spec: SequenceSpec) -> None:
        self.spec = spec
        self.owner = StreamOwner(spec, OWNER)
        self.received: list[int] = []
        self.at: str | None = None
        self.finished = False
        self.moves: dict[str, str] = {}  # asked for and not answered: their destinations
        self.pauses_s: list[float] = []


class Fleet:
    """Hosts in processes, and requests on them."""

    def __init__(self) -> None:
        self.hosts: dict[str, HostProcess] = {}
        self.addresses: dict[str, str] = {}
        self.requests: dict[str, Request] = {}
        self.reports: dict[str, wire.Report] = {}
        self.on_message: Callable[[str, wire.ToOwner], None] = lambda _id, _message: None
        self._mail: SimpleQueue[tuple[str, wire.ToOwner | _Exit]] = SimpleQueue()
        self._num_spawned = 0
        self._num_moves = 0

    def __enter__(self) -> "Fleet":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for host in self.hosts.values():
            host.kill()
        for host in self.hosts.values():
            host.stop()

    def spawn(self) -> str:
        """Start a host; it counts from when it is in `addresses`."""
        self._num_spawned += 1
        name = f"host {self._num_spawned}"
        self.hosts[name] = HostProcess(
            SETTINGS,
            lambda message: self._mail.put((name, message)),
            lambda code: self._mail.put((name, _Exit(code))),
        )
        return name

    def infer(self, spec: SequenceSpec, name: str) -> Request:
        request = self.requests[spec.request_id] = Request(spec)
        self._infer(request, name)
        return request

    def resume(self, request: Request, name: str, replay_tokens: int | None) -> None:
        if request.at is None or request.at == name or request.moves:
            return
        self._num_moves += 1
        key = self._num_moves.to_bytes(32, "big")
        terms = wire.Terms(key, "timed", KV_LAYOUT, replay_tokens)
        order = MoveOrder(f"m{self._num_moves}", request.at, name, self.addresses[name], terms)
        request.moves[order.move_id] = name
        request.owner.resume(order, time.monotonic())
        self._carry_out(request)

    def run_until(self, done: Callable[[], bool], within_s: float) -> None:
        """Handle what comes. Raises AssertionError when it takes too long."""
        deadline_s = time.monotonic() + within_s
        while not done():
            now_s = time.monotonic()
            assert now_s < deadline_s, f"not done within {within_s} s"
            wakeups_s = [request.owner.next_wakeup_s for request in self.requests.values()]
            soonest_s = min((at_s for at_s in wakeups_s if at_s is not None), default=deadline_s)
            wait_s = min(soonest_s - now_s, deadline_s - now_s, 0.05)
            with contextlib.suppress(Empty):
                self._handle(*self._mail.get(timeout=max(0.0, wait_s)))
            for request in self.requests.values():
                request.owner.wakeup(time.monotonic())
                self._carry_out(request)

    def inspect(self) -> None:
        """Ask every host what it holds; the answers are in `reports`."""
        self.reports.clear()
        for host in self.hosts.values():
            host.post(wire.Inspect())

    def _handle(self, name: str, message: wire.ToOwner | _Exit) -> None:
        match message:
            case _Exit():
                self._exited(name)
            case wire.Online(_, address):
                self.addresses[name] = address
            case wire.Report():
                self.reports[name] = message
            case wire.Broken(reason):
                raise AssertionError(f"{name} broke: {reason}")
            case _:
                self.on_message(name, message)
                request = self.requests.get(message.request_id)
                if request is not None:
                    request.owner.receive(name, message, time.monotonic())
                    self._carry_out(request)

    def _exited(self, name: str) -> None:
        del self.hosts[name]
        self.addresses.pop(name, None)
        for request in self.requests.values():
            request.owner.lost(name, time.monotonic())
            self._carry_out(request)
            request.moves = {move: to for move, to in request.moves.items() if to != name}
            if request.at == name and not request.finished:
                self._infer(request, next(iter(self.addresses)))

    def _infer(self, request: Request, name: str) -> None:
        request.at = name
        request.owner.infer(name, time.monotonic())
        self._carry_out(request)

    def _carry_out(self, request: Request) -> None:
        for output in request.owner.take_outputs():
            match output:
                case Send(name, message):
                    if name in self.hosts:
                        self.hosts[name].post(message)
                case Deliver(first, tokens, finish):
                    assert first == len(request.received), "a token lost or repeated"
                    assert not request.finished, "a token after the end"
                    request.received += tokens
                    request.finished = finish is not None
                case Report(event):
                    self._heard(request, event)

    def _heard(
        self,
        request: Request,
        event: InferenceFinished
        | InferenceFailed
        | InferenceStopped
        | MigrationFinished
        | MigrationFailed,
    ) -> None:
        match event:
            case MigrationFinished():
                assert event.source_id == request.at, f"{event} of a request at {request.at}"
                request.at = event.destination_id
                del request.moves[event.move_id]
                request.pauses_s.append(event.pause_s)
            case MigrationFailed():
                del request.moves[event.move_id]
            case InferenceFinished(_, name):
                assert name == request.at, f"{event} of a request at {request.at}"
            case InferenceFailed() | InferenceStopped():
                raise AssertionError(f"unasked: {event}")
