"""Requests on a fleet of hosts that may be killed, and what their clients have of them.

It stands where a controller stands: starts requests, asks for moves, and starts again elsewhere
what was interrupted.
"""

import time
from collections.abc import Callable
from types import TracebackType

from experiments.benchmarks.migration.fleet import Fleet as Processes
from experiments.campaigns.migration.samples import KV_LAYOUT
from sllmcore.events import InferenceFinished, MigrationFailed, MigrationFinished
from sllmcore.migration_rounds import RoundSettings
from sllmreal.control.deployment import ModelDeployment
from sllmreal.engine.protocol import SequenceSpec
from sllmreal.migration.destination import DestinationOptions
from sllmreal.migration.source import SourceOptions
from sllmreal.streams import messages as wire
from sllmreal.streams.host_options import HostOptions
from sllmreal.streams.owner import StreamOwner
from sllmreal.streams.owner_io import DeliverTokens, MigrationOrder, OwnerOptions, StreamEvent
from sllmreal.worker.process_options import ProcessOptions

PACE = {"decode_step_s": 0.001, "prefill_token_s": 0.00002}
MODEL = ModelDeployment("timed", "", 1, 4096, 0.0, "timed", num_slots=16, settings=PACE)
OPTIONS = ProcessOptions(
    host=HostOptions(
        lease_s=5.0,
        source=SourceOptions(RoundSettings(final_gap=4), stall_s=0.6, hold_s=0.4),
        destination=DestinationOptions(resend_s=0.2),
    )
)
OWNER = OwnerOptions(poll_s=0.5, resend_s=0.2, move_s=3.0)


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
        self.processes = Processes(MODEL, OPTIONS, self)
        self.requests: dict[str, Request] = {}
        self.reports: dict[str, wire.HostStatus] = {}
        self.on_message: Callable[[str, wire.ToOwner], None] = lambda _id, _message: None
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
        self.processes.__exit__(kind, error, trace)

    def spawn(self) -> None:
        """Start a host; it counts from when it is online."""
        self._num_spawned += 1
        self.processes.spawn(f"host {self._num_spawned}")

    def infer(self, spec: SequenceSpec, name: str) -> Request:
        request = self.requests[spec.request_id] = Request(spec)
        self.processes.owners[spec.request_id] = request.owner
        self._infer(request, name)
        return request

    def forget(self, request: Request) -> None:
        """A request that is over."""
        del self.requests[request.spec.request_id], self.processes.owners[request.spec.request_id]

    def resume(self, request: Request, name: str, replay_tokens: int | None) -> None:
        if request.at is None or request.at == name or request.moves:
            return
        self._num_moves += 1
        key = self._num_moves.to_bytes(32, "big")
        terms = wire.MigrationParams(key, "timed", KV_LAYOUT, replay_tokens)
        address = self.processes.online[name].address
        order = MigrationOrder(f"m{self._num_moves}", request.at, name, address, terms)
        request.moves[order.move_id] = name
        request.owner.resume(order, time.monotonic())

    def run_until(self, done: Callable[[], bool], within_s: float) -> None:
        """Handle what comes. Raises EngineLostError when it takes too long."""
        self.processes.run_until(done, within_s)

    def inspect(self, within_s: float) -> None:
        """Ask every host what it holds; the answers of those that live are in `reports`."""
        online = self.processes.online
        self.reports.clear()
        asked = set(online)
        for name in asked:
            self.processes.post(name, wire.GetHostStatus())
        self.run_until(lambda: set(self.reports) >= asked & set(online), within_s)

    def said(self, name: str, message: wire.ToOwner) -> None:
        """From the processes."""
        if isinstance(message, wire.HostStatus):
            self.reports[name] = message
        else:
            self.on_message(name, message)

    def lost(self, name: str, reason: str) -> None:
        """From the processes."""
        for request in self.requests.values():
            request.moves = {move: to for move, to in request.moves.items() if to != name}
            if request.at == name and not request.finished:
                self._infer(request, next(iter(self.processes.online)))

    def delivered(self, request_id: str, tokens: DeliverTokens) -> None:
        """From the processes."""
        request = self.requests[request_id]
        assert tokens.first == len(request.received), "a token lost or repeated"
        assert not request.finished, "a token after the end"
        request.received += tokens.tokens
        request.finished = tokens.finish is not None

    def reported(self, request_id: str, event: StreamEvent) -> None:
        """From the processes."""
        request = self.requests[request_id]
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
            case _:
                raise AssertionError(f"unasked: {event}")

    def _infer(self, request: Request, name: str) -> None:
        request.at = name
        request.owner.infer(name, time.monotonic())
