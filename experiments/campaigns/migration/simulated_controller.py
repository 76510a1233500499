"""The controller and the client of a simulated migration; both check what they receive."""

from collections.abc import Callable
from dataclasses import dataclass, field

from experiments.campaigns.migration.cells import FaultCell
from experiments.campaigns.migration.laws import law
from experiments.campaigns.migration.samples import KV_LAYOUT
from experiments.campaigns.migration.virtual import VirtualClock, VirtualNetwork, VirtualNode
from sllmcore.events import (
    InferenceFailed,
    InferenceFinished,
    InferenceStopped,
    MigrationFailed,
    MigrationFinished,
)
from sllmreal.streams import messages as wire
from sllmreal.streams.owner import StreamOwner
from sllmreal.streams.owner_io import DeliverTokens, MigrationSpec, StreamEvent


@dataclass(slots=True)
class MigrationOutcome:
    """End of the request, number of migrations, and visited cells of one run.

    Attributes:
        ended: "finished", "stopped", "failed", or "broken" if the owner's process died; empty while
            the request is open.
    """

    ended: str = ""
    num_moved: int = 0
    num_not_moved: int = 0
    num_interrupted: int = 0
    visited: set[FaultCell] = field(default_factory=set)


@dataclass(slots=True)
class SimulatedClient:
    """The tokens that the client of the request has received."""

    tokens: list[int] = field(default_factory=list)
    ended: bool = False

    def receive(self, output: DeliverTokens) -> None:
        """Append tokens. Raises LawBrokenError unless they follow on directly."""
        law(not self.ended, f"{output} after the end")
        law(output.first == len(self.tokens), f"{output} at {len(self.tokens)}")
        self.tokens += output.tokens
        self.ended = output.finish is not None


class SimulatedController:
    """Starts, migrates, stops and restarts the request as a controller does.

    Args:
        node: The process of the request's `StreamOwner`.
        add_host: Adds a host to the network and returns its name.
        replay_tokens: Context tokens that destinations compute themselves; None for all.

    Attributes:
        instance_id: The instance that runs the request as far as the controller knows.
    """

    def __init__(
        self,
        clock: VirtualClock,
        node: VirtualNode,
        owner: StreamOwner,
        network: VirtualNetwork,
        add_host: Callable[[], str],
        replay_tokens: int | None,
    ) -> None:
        self.client = SimulatedClient()
        self.outcome = MigrationOutcome()
        self.instance_id: str | None = None
        self._clock = clock
        self._node = node
        self._owner = owner
        self._network = network
        self._rng = network.rng
        self._add_host = add_host
        self._replay_tokens = replay_tokens
        self._orders: dict[str, MigrationSpec] = {}  # by id; neither finished nor failed
        self._num_orders = 0
        self._stopping = False

    @property
    def open_migrations(self) -> list[str]:
        """Ids of the migrations that have neither finished nor failed."""
        return list(self._orders)

    def start(self, instance_id: str) -> None:
        """Start the request on an instance."""
        self.instance_id = instance_id
        self._node.handle(lambda: self._owner.start(instance_id, self._clock.now_s))

    def migrate(self, source_id: str, destination_id: str) -> None:
        """Order a migration, unless the request has left the source or may not migrate now."""
        unfit = self._stopping or self._orders or self.outcome.ended
        if self.instance_id != source_id or unfit:
            return
        if not self._network.hosts[destination_id].alive:
            return
        self._num_orders += 1
        key = self._num_orders.to_bytes(32, "big")
        params = wire.MigrationParams(key, "timed", KV_LAYOUT, self._replay_tokens)
        order = MigrationSpec(
            move_id=f"m{self._num_orders}",
            source_id=source_id,
            destination_id=destination_id,
            address=destination_id,
            params=params,
        )
        self._orders[order.move_id] = order
        self._node.handle(lambda: self._owner.migrate(order, self._clock.now_s))

    def stop(self) -> None:
        """Stop the request and abort its migrations."""
        instance_id = self.instance_id
        if instance_id is None or self.outcome.ended or self._stopping:
            return
        self._stopping = True
        self.abort_migrations()
        self._node.handle(lambda: self._owner.stop(instance_id, self._clock.now_s))

    def abort_migrations(self) -> None:
        """Abort all open migrations."""
        for move_id in list(self._orders):
            self._node.handle(lambda move_id=move_id: self._abort(move_id))  # type: ignore[misc]

    def owner_died(self) -> None:
        """End the request, because the process of its owner has crashed."""
        self.outcome.ended = self.outcome.ended or "broken"

    def host_lost(self, instance_id: str) -> None:
        """Abort migrations of a lost instance, and restart the request if it ran there."""
        for move_id, order in list(self._orders.items()):
            if order.destination_id == instance_id:
                del self._orders[move_id]
            elif order.source_id == instance_id:
                self._abort(move_id)
        if self.instance_id == instance_id and not self.outcome.ended:
            if self._stopping:
                self._end("stopped")
            else:
                self.outcome.num_interrupted += 1
                self.start(self._instance_for_restart())

    def receive(self, event: StreamEvent) -> None:
        """Handle an event. Raises LawBrokenError if it breaks the contract of `sllmcore.events`."""
        match event:
            case InferenceFinished(_, instance_id, output_tokens):
                num_tokens = len(self.client.tokens)
                self._check_instance(event, instance_id)
                law(output_tokens == num_tokens, f"{event}, delivered {num_tokens}")
                law(self.client.ended, f"{event} before its last token")
                self._end("finished")
            case InferenceFailed(instance_id=instance_id):
                self._check_instance(event, instance_id)
                self._end("failed")
            case InferenceStopped(_, instance_id):
                law(self._stopping and instance_id == self.instance_id, f"{event} unasked")
                self._end("stopped")
            case MigrationFinished(move_id):
                law(self._orders.pop(move_id, None) is not None, f"{event} unasked")
                self._migrated(event)
            case MigrationFailed(move_id):
                law(self._orders.pop(move_id, None) is not None, f"{event} unasked")
                self.outcome.num_not_moved += 1
                if self._rng.random() < 0.3 and self.instance_id is not None:
                    self._migrate_again(self.instance_id)

    def _check_instance(self, event: StreamEvent, instance_id: str) -> None:
        law(instance_id == self.instance_id, f"{event}, but the request is on {self.instance_id}")

    def _migrated(self, event: MigrationFinished) -> None:
        self._check_instance(event, event.source_id)
        law(event.pause_s >= 0 and event.resume_s >= 0, f"{event} has a negative duration")
        self.instance_id = event.destination_id
        self.outcome.num_moved += 1
        if self._stopping:  # the stop went to the source: repeat it to the destination
            instance_id = self.instance_id
            self._node.handle(lambda: self._owner.stop(instance_id, self._clock.now_s))
        elif self._rng.random() < 0.3:
            self._migrate_again(event.destination_id)

    def _migrate_again(self, source_id: str) -> None:
        """Migrate to a random other host, possibly the one that the request came from."""
        hosts = self._network.hosts
        others = [name for name, host in hosts.items() if host.alive and name != source_id]
        if others:
            destination_id = self._rng.choice(others)
            self._clock.after(
                self._rng.uniform(0, 0.3), lambda: self.migrate(source_id, destination_id)
            )

    def _instance_for_restart(self) -> str:
        alive = [name for name, host in self._network.hosts.items() if host.alive]
        if alive and self._rng.random() < 0.5:
            return self._rng.choice(alive)
        return self._add_host()

    def _abort(self, move_id: str) -> None:
        self._owner.abort_migration(move_id, self._clock.now_s)

    def _end(self, how: str) -> None:
        law(not self.outcome.ended, f"{how}, and {self.outcome.ended} before")
        self.outcome.ended, self.instance_id = how, None
