"""A stand-in for controller and clients above engine host processes that may be killed.

It starts requests, migrates them, restarts interrupted requests on other hosts, and checks the
tokens and events that it receives.
"""

import time
from collections.abc import Callable
from types import TracebackType

from experiments.benchmarks.migration.fleet import HostFleet
from experiments.campaigns.migration.samples import KV_LAYOUT
from sllmcore.events import InferenceFinished, MigrationFailed, MigrationFinished
from sllmcore.migration_rounds import RoundSettings
from sllmreal.control.deployment import ModelDeployment
from sllmreal.engine.protocol import SequenceSpec
from sllmreal.migration.destination import DestinationOptions
from sllmreal.migration.source import SourceOptions
from sllmreal.streams import messages as wire
from sllmreal.streams.host_io import HostOptions
from sllmreal.streams.owner import StreamOwner
from sllmreal.streams.owner_io import DeliverTokens, MigrationSpec, OwnerOptions, StreamEvent
from sllmreal.worker.process_options import ProcessOptions

PACE = {"decode_step_s": 0.001, "prefill_token_s": 0.00002}
MODEL = ModelDeployment(
    name="timed",
    source="",
    size_bytes=1,
    context_tokens=4096,
    created_at_s=0.0,
    engine="timed",
    num_slots=16,
    settings=PACE,
)
OPTIONS = ProcessOptions(
    host=HostOptions(
        lease_s=5.0,
        source=SourceOptions(RoundSettings(final_gap=4), stall_s=0.6, hold_s=0.4),
        destination=DestinationOptions(resend_s=0.2),
    )
)
OWNER = OwnerOptions(poll_s=0.5, resend_s=0.2, move_s=3.0)


class HostedRequest:
    """A request on a host process, and the tokens that its client has received.

    Attributes:
        host: The host that runs the request as far as the controller knows.
        destinations: Destination of each migration that has neither finished nor failed, by id.
        pauses_s: Pause of each finished migration.
    """

    def __init__(self, spec: SequenceSpec) -> None:
        self.spec = spec
        self.owner = StreamOwner(spec, OWNER)
        self.received: list[int] = []
        self.host: str | None = None
        self.finished = False
        self.destinations: dict[str, str] = {}
        self.pauses_s: list[float] = []


class ProcessController:
    """Starts, migrates and restarts requests on host processes; a context manager.

    Attributes:
        statuses: Answers to the last `inspect`, by host.
        on_message: Called with each message of a host but its status.
    """

    def __init__(self) -> None:
        self.fleet = HostFleet(MODEL, OPTIONS, self)
        self.requests: dict[str, HostedRequest] = {}
        self.statuses: dict[str, wire.HostStatus] = {}
        self.on_message: Callable[[str, wire.ToOwner], None] = lambda _id, _message: None
        self._num_spawned = 0
        self._num_migrations = 0

    def __enter__(self) -> "ProcessController":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.fleet.__exit__(kind, error, trace)

    def spawn(self) -> None:
        """Start a host process; it can be used once `fleet.online` contains it."""
        self._num_spawned += 1
        self.fleet.spawn(f"host {self._num_spawned}")

    def start(self, spec: SequenceSpec, name: str) -> HostedRequest:
        """Start a request on the host `name`."""
        request = self.requests[spec.request_id] = HostedRequest(spec)
        self.fleet.owners[spec.request_id] = request.owner
        self._start(request, name)
        return request

    def forget(self, request: HostedRequest) -> None:
        """Remove a request that has ended."""
        del self.requests[request.spec.request_id], self.fleet.owners[request.spec.request_id]

    def migrate(self, request: HostedRequest, name: str, replay_tokens: int | None) -> None:
        """Migrate a request to the host `name`, unless it runs there or is migrating already."""
        if request.host is None or request.host == name or request.destinations:
            return
        self._num_migrations += 1
        key = self._num_migrations.to_bytes(32, "big")
        params = wire.MigrationParams(key, "timed", KV_LAYOUT, replay_tokens)
        address = self.fleet.online[name].address
        order = MigrationSpec(
            move_id=f"m{self._num_migrations}",
            source_id=request.host,
            destination_id=name,
            address=address,
            params=params,
        )
        request.destinations[order.move_id] = name
        request.owner.migrate(order, time.monotonic())

    def run_until(self, done: Callable[[], bool], within_s: float) -> None:
        """Run until `done` returns True. Raises EngineLostError after `within_s`."""
        self.fleet.run_until(done, within_s)

    def inspect(self, within_s: float) -> None:
        """Ask every host for its status and wait for the answers of those that stay online."""
        online = self.fleet.online
        self.statuses.clear()
        asked = set(online)
        for name in asked:
            self.fleet.post(name, wire.GetHostStatus())
        self.run_until(lambda: set(self.statuses) >= asked & set(online), within_s)

    def message_received(self, name: str, message: wire.ToOwner) -> None:
        """Keep a status; pass on any other message."""
        if isinstance(message, wire.HostStatus):
            self.statuses[name] = message
        else:
            self.on_message(name, message)

    def host_lost(self, name: str, reason: str) -> None:
        """Restart the requests of a lost host on another one."""
        for request in self.requests.values():
            request.destinations = {
                move_id: to for move_id, to in request.destinations.items() if to != name
            }
            if request.host == name and not request.finished:
                self._start(request, next(iter(self.fleet.online)))

    def tokens_delivered(self, request_id: str, tokens: DeliverTokens) -> None:
        """Check that tokens follow on directly, and append them."""
        request = self.requests[request_id]
        assert tokens.first == len(request.received), "a token was lost or repeated"
        assert not request.finished, "a token after the end"
        request.received += tokens.tokens
        request.finished = tokens.finish is not None

    def event_reported(self, request_id: str, event: StreamEvent) -> None:
        """Check an event against the request's state, and apply it."""
        request = self.requests[request_id]
        match event:
            case MigrationFinished():
                assert event.source_id == request.host, (
                    f"{event}, but the request is on {request.host}"
                )
                request.host = event.destination_id
                del request.destinations[event.move_id]
                request.pauses_s.append(event.pause_s)
            case MigrationFailed():
                del request.destinations[event.move_id]
            case InferenceFinished(_, name):
                assert name == request.host, f"{event}, but the request is on {request.host}"
            case _:
                raise AssertionError(f"unexpected {event}")

    def _start(self, request: HostedRequest, name: str) -> None:
        request.host = name
        request.owner.start(name, time.monotonic())
