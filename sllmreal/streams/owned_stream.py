"""The state of one request's stream in its owner: token log, route, pending stops and outputs.

`StreamOwner` and `OwnerMigration` share it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sllmreal.engine.protocol import SequenceSpec
from sllmreal.streams import messages
from sllmreal.streams.messages import Epoch
from sllmreal.streams.owner_io import (
    OwnerOptions,
    OwnerOutput,
    ReportEvent,
    SendToHost,
    StreamEvent,
)
from sllmreal.streams.pending_stops import PendingStop, PendingStops
from sllmreal.streams.token_log import TokenLog


@dataclass(slots=True)
class Route:
    """The instance and epoch that the owner accepts tokens from."""

    instance_id: str
    epoch: Epoch
    poll_at_s: float  # time of the next poll
    gap_polled_at_s: float = float("-inf")  # time of the last poll for missing tokens


class OwnedStream:
    """The tokens, route and pending stops of one request, and the outputs not taken yet.

    Epochs are issued here, each once.
    """

    def __init__(self, spec: SequenceSpec, options: OwnerOptions) -> None:
        self.spec = spec
        self.options = options
        self.log = TokenLog(spec)
        self.route: Route | None = None
        self.stops = PendingStops(options.resend_s)
        self._last_epoch = 0
        self._outputs: list[OwnerOutput] = []

    @property
    def request_id(self) -> str:
        return self.spec.request_id

    @property
    def num_context(self) -> int:
        """Tokens of prompt and output."""
        return len(self.spec.prompt) + len(self.log)

    def next_epoch(self) -> Epoch:
        """Issue the next epoch."""
        self._last_epoch += 1
        return Epoch(self._last_epoch)

    def is_route(self, instance_id: str, epoch: Epoch) -> bool:
        """Return True if tokens of this instance and epoch are accepted."""
        route = self.route
        return route is not None and route.instance_id == instance_id and route.epoch == epoch

    def packed_spec(self, output: Sequence[int]) -> messages.PackedSpec:
        """Return the request with `output` as the tokens generated so far."""
        return messages.PackedSpec.of(replace(self.spec, output=tuple(output)))

    def begin_stop(self, stop: PendingStop) -> None:
        """Send StopStream, and again until its host answers."""
        self.stops.add(stop)
        self.send_stop(stop)
        stop.resend_at_s += self.options.resend_s

    def send_stop(self, stop: PendingStop) -> None:
        """Send the StopStream of a pending stop."""
        self.send(stop.instance_id, messages.StopStream(self.request_id, stop.epoch))

    def stop_stale(self, instance_id: str, epoch: Epoch) -> None:
        """Send StopStream once to a host that still generates for an outdated epoch."""
        if epoch not in self.stops:
            self.send(instance_id, messages.StopStream(self.request_id, epoch))

    def send(self, instance_id: str, message: messages.ToHost) -> None:
        """Add a SendToHost to the outputs."""
        self.add_output(SendToHost(instance_id, message))

    def report(self, event: StreamEvent, num_recomputed: int = 0) -> None:
        """Add a ReportEvent to the outputs."""
        self.add_output(ReportEvent(event, num_recomputed))

    def add_output(self, output: OwnerOutput) -> None:
        self._outputs.append(output)

    def take_outputs(self) -> list[OwnerOutput]:
        """Return the outputs since the last call, in order."""
        outputs, self._outputs = self._outputs, []
        return outputs
