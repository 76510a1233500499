"""Simulate one request that migrates in virtual time while faults strike, and check the laws.

Laws of each run:
  - the client receives the indices 0 .. n-1 once each, in order, and one end;
  - each token follows from the tokens before it by the arithmetic of one host, and the host changes
    at most as often as the stream's route; where all hosts compute alike, the tokens are therefore
    those of an unmigrated run;
  - the controller receives the events that `sllmcore.events` promises;
  - the request ends, and some time later no living host holds anything of it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from experiments.campaigns.migration.cells import (
    OF_MESSAGES,
    OF_ROLES,
    Fault,
    FaultCell,
    MigrationStep,
    Role,
    StepDetector,
)
from experiments.campaigns.migration.laws import VOCABULARY, check_tokens, law
from experiments.campaigns.migration.simulated_controller import (
    MigrationOutcome,
    SimulatedController,
)
from experiments.campaigns.migration.virtual import (
    Action,
    VirtualClock,
    VirtualHost,
    VirtualNetwork,
    VirtualNode,
)
from sllmreal.engine.mixing import splitmix64
from sllmreal.engine.protocol import Sampling, SequenceSpec
from sllmreal.engine.timed import Pace, TimedOptions
from sllmreal.migration.destination import DestinationOptions
from sllmreal.migration.source import SourceOptions
from sllmreal.streams.host_io import (
    Connect,
    Disconnect,
    Expect,
    HostOptions,
    HostOutput,
    SendToOwner,
    Transmit,
)
from sllmreal.streams.owner import StreamOwner
from sllmreal.streams.owner_io import DeliverTokens, OwnerOptions, ReportEvent, SendToHost

HORIZON_S = 400.0  # a run must have ended by then
ENGINE = TimedOptions(
    num_slots=2,
    prefill_chunk_tokens=16,
    pace=Pace(prefill_token_s=0.001, decode_step_s=0.02),
)
HOST = HostOptions(
    lease_s=12.0,
    source=SourceOptions(stall_s=3.0, delta_bytes=512, window_bytes=1024, resend_s=0.2),
    destination=DestinationOptions(progress_s=0.05, resend_s=0.3),
)
OWNER = OwnerOptions(poll_s=1.0, resend_s=0.3, gap_s=0.05, move_s=15.0)

OwnerOutput = SendToHost | DeliverTokens | ReportEvent


class VirtualOwner(VirtualNode):
    """The process of a `StreamOwner`; `carry_out` receives the owner's outputs."""

    def __init__(
        self, clock: VirtualClock, owner: StreamOwner, carry_out: Callable[[OwnerOutput], None]
    ) -> None:
        super().__init__(clock)
        self.owner = owner
        self._carry_out = carry_out

    def settle(self) -> None:
        """Carry out the owner's outputs and set its timer."""
        for output in self.owner.take_outputs():
            if not self.alive:
                return
            self._carry_out(output)
        if self.alive:
            self.wake_at(self.owner.next_wakeup_s, lambda: self.owner.advance(self._clock.now_s))


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message in transit: its sender, its receiver, and the receiver's action on arrival."""

    sender: VirtualNode
    receiver: VirtualNode
    action: Action


class SimulatedMigration:
    """A run of the simulation, determined completely by its arguments.

    Args:
        seed: Random seed of all choices.
        cells: Faults to inject.
        noise: Probability of losing, repeating or delaying a message.
    """

    def __init__(self, seed: int, cells: tuple[FaultCell, ...], noise: float = 0.0) -> None:
        rng = self._rng = Random(seed)
        self._clock = VirtualClock()
        self._network = VirtualNetwork(rng)
        self._armed = list(cells)
        self._noise = noise
        self._steps = StepDetector()
        self._num_in_transit = 0
        self._last_arrival_s: dict[tuple[VirtualNode, VirtualNode], float] = {}
        replay_tokens = rng.choice((None, None, 0, 0, 25, 45))
        self._alike = replay_tokens is not None or rng.random() < 0.3
        self._spec = SequenceSpec(
            "r",
            tuple(rng.randrange(VOCABULARY) for _ in range(rng.randint(5, 60))),
            rng.randint(35, 60),
            Sampling(temperature=rng.choice((0.0, 1.0)), seed=seed),
        )
        self._options = self._host_options(cells)
        owner = StreamOwner(self._spec, OWNER)
        self._node = VirtualOwner(self._clock, owner, self._carry_out_owner)
        self._controller = SimulatedController(
            clock=self._clock,
            node=self._node,
            owner=owner,
            network=self._network,
            add_host=self._add_host,
            replay_tokens=replay_tokens,
        )
        self._add_host("source")
        self._add_host("destination")

    def run(self) -> MigrationOutcome:
        """Simulate to the end. Raises LawBrokenError."""
        controller = self._controller
        controller.start("source")
        self._clock.at(
            self._rng.uniform(0.0, 0.4), lambda: controller.migrate("source", "destination")
        )
        while not self._ended and self._clock.now_s < HORIZON_S and self._clock.run_next():
            pass
        self._check_end()
        return controller.outcome

    # Hosts.

    def _host_options(self, cells: tuple[FaultCell, ...]) -> HostOptions:
        # With a short hold the source gives up early and goes on while its destination takes over.
        hold_s = self._rng.choice((1.5, 1.5, 1.5, self._rng.uniform(0.001, 0.02)))
        if any(cell.step is MigrationStep.GIVE_UP for cell in cells):
            hold_s = self._rng.uniform(0.0005, 0.004)
        delta_bytes = self._rng.choice((32, 128, 512))
        return replace(HOST, source=replace(HOST.source, hold_s=hold_s, delta_bytes=delta_bytes))

    def _add_host(self, name: str | None = None) -> str:
        hosts = self._network.hosts
        name = name or f"host {len(hosts)}"
        origin = 12345 if self._alike else len(hosts) + 1
        host = VirtualHost(
            clock=self._clock,
            name=name,
            engine=ENGINE,
            options=self._options,
            origin=splitmix64(origin),
        )
        host.carry_out = self._carry_out_host
        hosts[name] = host
        return name

    @property
    def _ended(self) -> bool:
        node = self._node
        ended = bool(self._controller.outcome.ended)
        settled = not node.alive or (ended and node.owner.settled)
        alive = [host for host in self._network.hosts.values() if host.alive]
        return settled and not self._num_in_transit and all(host.empty for host in alive)

    # Messages and faults.

    def _send(self, message: object, delivery: Delivery) -> None:
        """Send a message, and inject the faults that are armed for its step."""
        copies, extra_s = 1, 0.0
        faults = self._faults_at(self._steps.step_of(message))
        for cell in faults:
            if cell.role is not None and cell.fault is Fault.CRASH_BEFORE:
                self._crash(cell.role)
                if not delivery.sender.alive:
                    copies = 0
            copies *= {Fault.DROP: 0, Fault.DUPLICATE: 2}.get(cell.fault, 1)
            extra_s += {Fault.REORDER: 0.2, Fault.LATE: 8.0}.get(cell.fault, 0.0)
        if self._rng.random() < self._noise:
            copies *= self._rng.choice((0, 1, 2))
            extra_s += self._rng.choice((0.0, 0.1))
        for _ in range(copies):
            self._num_in_transit += 1
            self._clock.at(self._arrival_s(delivery) + extra_s, lambda: self._arrive(delivery))
        for cell in faults:
            self._strike(cell)

    def _arrival_s(self, delivery: Delivery) -> float:
        """Draw the time of arrival. Messages between two nodes stay in order, faults aside."""
        ends = delivery.sender, delivery.receiver
        earliest_s = self._last_arrival_s.get(ends, 0.0)
        arrival_s = max(earliest_s, self._clock.now_s + self._rng.uniform(0.0002, 0.002))
        self._last_arrival_s[ends] = arrival_s
        return arrival_s

    def _arrive(self, delivery: Delivery) -> None:
        self._num_in_transit -= 1
        delivery.receiver.handle(delivery.action)

    def _faults_at(self, step: MigrationStep | None) -> list[FaultCell]:
        if step is None:
            return []
        struck = [cell for cell in self._armed if cell.step is step]
        self._armed = [cell for cell in self._armed if cell.step is not step]
        self._controller.outcome.visited.update(struck)
        return struck

    def _strike(self, cell: FaultCell) -> None:
        match cell.fault:
            case Fault.CRASH_AFTER if cell.role is not None:
                self._crash(cell.role)
            case Fault.STALL if cell.role is not None:
                self._node_of(cell.role).stall(5.0)
            case Fault.CANCEL:
                self._clock.after(self._rng.uniform(0, 0.05), self._controller.stop)
            case Fault.ABORT:
                self._clock.after(self._rng.uniform(0, 0.05), self._controller.abort_migrations)
            case _:
                assert cell.fault in OF_MESSAGES + OF_ROLES

    def _node_of(self, role: Role) -> VirtualNode:
        return self._node if role is Role.OWNER else self._network.hosts[role.value]

    def _crash(self, role: Role) -> None:
        node = self._node_of(role)
        if not node.alive:
            return
        node.alive = False
        if not isinstance(node, VirtualHost):
            self._controller.owner_died()
            return
        detected_s = self._rng.uniform(0.001, 1.0)
        for link_id, peer in self._network.links_to(node):
            self._break_link(link_id, peer, detected_s)
        self._clock.after(detected_s, lambda: self._node.handle(lambda: self._host_lost(node.name)))

    def _break_link(self, link_id: bytes, peer: VirtualHost, after_s: float) -> None:
        def link_lost() -> None:
            peer.core.lose_link(link_id, "the other host died", self._clock.now_s)

        self._clock.after(after_s, lambda: peer.handle(link_lost))

    def _host_lost(self, instance_id: str) -> None:
        """Report the loss of a host to the owner, then to the controller."""
        self._node.owner.lose_instance(instance_id, self._clock.now_s)
        for output in self._node.owner.take_outputs():
            self._carry_out_owner(output)
        self._controller.host_lost(instance_id)

    def _carry_out_host(self, host: VirtualHost, effect: HostOutput) -> None:
        match effect:
            case SendToOwner(message):
                owner, name = self._node.owner, host.name
                action = lambda: owner.receive(name, message, self._clock.now_s)  # noqa: E731
                self._send(message, Delivery(host, self._node, action))
            case Transmit(link_id, message):
                peer = self._network.peer(link_id, host)
                if peer is None:
                    return
                receiver = peer
                action = lambda: receiver.core.receive_from_host(  # noqa: E731
                    link_id, message, self._clock.now_s
                )
                self._send(message, Delivery(host, receiver, action))
            case Connect(link_id):
                self._network.connect(host, effect, lambda: self._break_link(link_id, host, 0.001))
            case Expect():
                self._network.expect(host, effect)
            case Disconnect():
                self._network.disconnect(host, effect)

    def _carry_out_owner(self, output: OwnerOutput) -> None:
        match output:
            case SendToHost(instance_id, message):
                host = self._network.hosts[instance_id]
                action = lambda: host.core.receive(message, self._clock.now_s)  # noqa: E731
                self._send(message, Delivery(self._node, host, action))
            case DeliverTokens():
                self._controller.client.receive(output)
            case ReportEvent(event):
                self._controller.receive(event)

    # Laws.

    def _check_end(self) -> None:
        outcome, tokens = self._controller.outcome, self._controller.client.tokens
        hosts = self._network.hosts
        law(bool(outcome.ended), f"the request has not ended; {len(tokens)} tokens were delivered")
        if self._node.alive:
            open_migrations = self._controller.open_migrations
            law(self._node.owner.settled, "the owner still waits for hosts")
            law(not open_migrations, f"migrations without an end: {open_migrations}")
        for host in hosts.values():
            law(not host.alive or host.empty, f"{host.name} still holds {host.core.num_streams}")
        law(
            outcome.ended != "finished" or len(tokens) == self._spec.max_output_tokens,
            f"{len(tokens)} tokens of {self._spec.max_output_tokens}",
        )
        num_routes = outcome.num_moved + outcome.num_interrupted
        num_routes += outcome.ended == "broken"  # a commit may have been lost with the owner
        origins = {host.name: host.origin for host in hosts.values()}
        check_tokens(self._spec, tokens, origins, num_routes)
