"""One request that moves, in a world where one thing or several go wrong; and the laws.

The laws, of every run:
  - the client receives the indices 0 .. n-1 once each, in order, and one end;
  - each token follows from those before it by the arithmetic of one host, which changes no oftener
    than the stream moves; where hosts compute alike this is the unmigrated output;
  - the controller hears what the contract of `sllmcore.events` promises it;
  - the request ends, and a while later no host that lives holds anything of it.
"""

from dataclasses import dataclass, field, replace
from random import Random

from experiments.campaigns.migration.cells import (
    OF_MESSAGES,
    OF_ROLES,
    Cell,
    Fault,
    Role,
    Step,
    Watch,
)
from experiments.campaigns.migration.samples import KV_LAYOUT
from experiments.campaigns.migration.virtual import Action, Clock, HostNode, Network, Node
from sllmcore.events import (
    InferenceFailed,
    InferenceFinished,
    InferenceStopped,
    MigrationFailed,
    MigrationFinished,
)
from sllmreal.engine.mixing import splitmix64
from sllmreal.engine.protocol import Sampling, SequenceSpec
from sllmreal.engine.timed import Pace, TimedOptions
from sllmreal.migration.destination import DestinationOptions
from sllmreal.migration.source import SourceOptions
from sllmreal.streams import messages as wire
from sllmreal.streams.host_effects import Connect, Disconnect, Effect, Expect, SendToOwner, Transmit
from sllmreal.streams.host_options import HostOptions
from sllmreal.streams.owner import StreamOwner
from sllmreal.streams.owner_io import (
    DeliverTokens,
    MigrationOrder,
    OwnerOptions,
    ReportEvent,
    SendToHost,
    StreamEvent,
)

HORIZON_S = 400.0  # everything must have ended by then
VOCABULARY = 32000
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


class LawBrokenError(AssertionError):
    """What must never happen has happened."""


def law(kept: bool, message: str) -> None:
    if not kept:
        raise LawBrokenError(message)


@dataclass(slots=True)
class Outcome:
    """What a run came to."""

    ended: str = ""  # finished, stopped, failed or broken (its owner died)
    num_moved: int = 0
    num_not_moved: int = 0
    num_interrupted: int = 0
    visited: set[Cell] = field(default_factory=set)


class OwnerNode(Node):
    """The process of the owner."""

    def __init__(self, clock: Clock, owner: StreamOwner, world: "World") -> None:
        super().__init__(clock)
        self.owner = owner
        self._world = world

    def settle(self) -> None:
        for output in self.owner.take_outputs():
            if not self.alive:
                return
            self._world.carry_out(output)
        if self.alive:
            self.wake_at(self.owner.next_wakeup_s, lambda: self.owner.wakeup(self._clock.now_s))


class World:
    """A run: made from a seed and the cells in which things go wrong."""

    def __init__(self, seed: int, cells: tuple[Cell, ...], noise: float = 0.0) -> None:
        self.rng = Random(seed)
        self.clock = Clock()
        self.network = Network(self.rng)
        self.outcome = Outcome()
        self._armed = list(cells)
        self._noise = noise
        self._watch = Watch()
        self._seen: set[Step] = set()
        self._num_flying = 0
        self._last_arrival_s: dict[tuple[Node, Node], float] = {}
        self._replay_tokens = self.rng.choice((None, None, 0, 0, 25, 45))
        self._alike = self._replay_tokens is not None or self.rng.random() < 0.3
        self.spec = SequenceSpec(
            "r",
            tuple(self.rng.randrange(VOCABULARY) for _ in range(self.rng.randint(5, 60))),
            self.rng.randint(35, 60),
            Sampling(temperature=self.rng.choice((0.0, 1.0)), seed=seed),
        )
        self.log: list[int] = []
        self._generated_by: list[str] = []
        self._ended_log = False
        self._at: str | None = None  # where the controller believes the request to run
        self._moves: dict[str, MigrationOrder] = {}  # asked for and not answered
        self._stopping = False
        self._num_moves = 0
        # A source that gives up early goes on while its destination takes over.
        hold_s = self.rng.choice((1.5, 1.5, 1.5, self.rng.uniform(0.001, 0.02)))
        if any(cell.step is Step.GIVE_UP for cell in cells):
            hold_s = self.rng.uniform(0.0005, 0.004)
        delta_bytes = self.rng.choice((32, 128, 512))
        source = replace(HOST.source, hold_s=hold_s, delta_bytes=delta_bytes)
        self._options = replace(HOST, source=source)
        self._node = OwnerNode(self.clock, StreamOwner(self.spec, OWNER), self)
        self._host("source")
        self._host("destination")

    def run(self) -> Outcome:
        """Play to the end and check the laws. Raises LawBrokenError."""
        self._infer("source")
        self.clock.at(self.rng.uniform(0.0, 0.4), lambda: self._resume("source", "destination"))
        while not self._at_rest and self.clock.now_s < HORIZON_S and self.clock.run_next():
            pass
        self._check_end()
        return self.outcome

    # The world.

    def _host(self, name: str) -> HostNode:
        origin = 12345 if self._alike else len(self.network.hosts) + 1
        node = HostNode(self.clock, name, ENGINE, self._options, splitmix64(origin))
        node.carry_out = self._carry_out_host
        self.network.hosts[name] = node
        return node

    @property
    def _at_rest(self) -> bool:
        owner = self._node
        settled = not owner.alive or (bool(self.outcome.ended) and owner.owner.settled)
        alive = [node for node in self.network.hosts.values() if node.alive]
        return settled and not self._num_flying and all(node.empty for node in alive)

    def _send(self, message: object, deliver: "Delivery", receiver: Node) -> None:
        """Put a message on its way, and let happen what is armed for its step."""
        step = self._watch.step_of(message)
        copies, extra_s = 1, 0.0
        faults = self._faults_at(step)
        for cell in faults:
            if cell.role is not None and cell.fault is Fault.CRASH_BEFORE:
                self._crash(cell.role)
                if not deliver.sender.alive:
                    copies = 0
            copies *= {Fault.DROP: 0, Fault.DUPLICATE: 2}.get(cell.fault, 1)
            extra_s += {Fault.REORDER: 0.2, Fault.LATE: 8.0}.get(cell.fault, 0.0)
        if self.rng.random() < self._noise:
            copies *= self.rng.choice((0, 1, 2))
            extra_s += self.rng.choice((0.0, 0.1))
        for _ in range(copies):
            self._num_flying += 1
            self.clock.at(
                self._arrival_s(deliver.sender, receiver) + extra_s,
                lambda: self._arrive(deliver, receiver),
            )
        for cell in faults:
            self._strike(cell)

    def _arrival_s(self, sender: Node, receiver: Node) -> float:
        """In order, as long as nothing interferes."""
        soonest_s = self._last_arrival_s.get((sender, receiver), 0.0)
        arrival_s = max(soonest_s, self.clock.now_s + self.rng.uniform(0.0002, 0.002))
        self._last_arrival_s[sender, receiver] = arrival_s
        return arrival_s

    def _arrive(self, deliver: "Delivery", receiver: Node) -> None:
        self._num_flying -= 1
        receiver.handle(deliver.action)

    def _faults_at(self, step: Step | None) -> list[Cell]:
        if step is None:
            return []
        struck = [cell for cell in self._armed if cell.step is step]
        self._armed = [cell for cell in self._armed if cell.step is not step]
        self.outcome.visited.update(struck)
        return struck

    def _strike(self, cell: Cell) -> None:
        match cell.fault:
            case Fault.CRASH_AFTER if cell.role is not None:
                self._crash(cell.role)
            case Fault.STALL if cell.role is not None:
                self._node_of(cell.role).stall(5.0)
            case Fault.CANCEL:
                self.clock.after(self.rng.uniform(0, 0.05), self._stop)
            case Fault.ABORT:
                self.clock.after(self.rng.uniform(0, 0.05), self._abort)
            case _:
                assert cell.fault in OF_MESSAGES + OF_ROLES

    def _node_of(self, role: Role) -> Node:
        return self._node if role is Role.OWNER else self.network.hosts[role.value]

    def _crash(self, role: Role) -> None:
        node = self._node_of(role)
        if not node.alive:
            return
        node.alive = False
        if not isinstance(node, HostNode):
            self.outcome.ended = self.outcome.ended or "broken"
            return
        noticed_s = self.rng.uniform(0.001, 1.0)
        for link_id, peer in self.network.links_to(node):
            self._tell_lost(link_id, peer, noticed_s)
        self.clock.after(noticed_s, lambda: self._node.handle(lambda: self._lost(node.name)))

    def _tell_lost(self, link_id: bytes, peer: HostNode, after_s: float) -> None:
        def tell() -> None:
            peer.core.link_lost(link_id, "the other host died", self.clock.now_s)

        self.clock.after(after_s, lambda: peer.handle(tell))

    def _carry_out_host(self, node: HostNode, effect: Effect) -> None:
        match effect:
            case SendToOwner(message):
                owner, name = self._node.owner, node.name
                action = lambda: owner.receive(name, message, self.clock.now_s)  # noqa: E731
                self._send(message, Delivery(node, action), self._node)
            case Transmit(link_id, message):
                peer = self.network.peer(link_id, node)
                if peer is None:
                    return
                to = peer
                action = lambda: to.core.receive_from_host(  # noqa: E731
                    link_id, message, self.clock.now_s
                )
                self._send(message, Delivery(node, action), to)
            case Connect(link_id):
                self.network.connect(node, effect, lambda: self._tell_lost(link_id, node, 0.001))
            case Expect():
                self.network.expect(node, effect)
            case Disconnect():
                self.network.disconnect(node, effect)

    def carry_out(self, output: SendToHost | DeliverTokens | ReportEvent) -> None:
        """What the owner wants."""
        match output:
            case SendToHost(instance_id, message):
                host = self.network.hosts[instance_id]
                action = lambda: host.core.receive(message, self.clock.now_s)  # noqa: E731
                self._send(message, Delivery(self._node, action), host)
            case DeliverTokens():
                self._delivered(output)
            case ReportEvent(event):
                self._heard(event)

    # The client.

    def _delivered(self, output: DeliverTokens) -> None:
        law(not self._ended_log, f"{output} after the end")
        law(output.first == len(self.log), f"{output} at {len(self.log)}")
        self.log += output.tokens
        self._ended_log = output.finish is not None

    # The controller.

    def _infer(self, instance_id: str) -> None:
        self._at = instance_id
        self._node.handle(lambda: self._node.owner.infer(instance_id, self.clock.now_s))

    def _resume(self, source_id: str, destination_id: str) -> None:
        if self._at != source_id or self._stopping or self._moves or self.outcome.ended:
            return
        if not self.network.hosts[destination_id].alive:
            return
        self._num_moves += 1
        key = self._num_moves.to_bytes(32, "big")
        terms = wire.MigrationParams(key, "timed", KV_LAYOUT, self._replay_tokens)
        order = MigrationOrder(
            f"m{self._num_moves}", source_id, destination_id, destination_id, terms
        )
        self._moves[order.move_id] = order
        self._node.handle(lambda: self._node.owner.resume(order, self.clock.now_s))

    def _stop(self) -> None:
        at = self._at
        if at is None or self.outcome.ended or self._stopping:
            return
        self._stopping = True
        self._abort()
        self._node.handle(lambda: self._node.owner.stop(at, self.clock.now_s))

    def _abort(self) -> None:
        for move_id in list(self._moves):
            self._node.handle(lambda move_id=move_id: self._abort_move(move_id))  # type: ignore[misc]

    def _abort_move(self, move_id: str) -> None:
        self._node.owner.abort(move_id, self.clock.now_s)

    def _lost(self, instance_id: str) -> None:
        """The owner's process notices that an instance is gone, and tells the controller."""
        self._node.owner.lost(instance_id, self.clock.now_s)
        for output in self._node.owner.take_outputs():
            self.carry_out(output)
        for move_id, order in list(self._moves.items()):
            if order.destination_id == instance_id:
                del self._moves[move_id]
            elif order.source_id == instance_id:
                self._abort_move(move_id)
        if self._at == instance_id and not self.outcome.ended:
            if self._stopping:
                self._end("stopped")
            else:
                self.outcome.num_interrupted += 1
                self._infer(self._place())

    def _place(self) -> str:
        alive = [name for name, node in self.network.hosts.items() if node.alive]
        if alive and self.rng.random() < 0.5:
            return self.rng.choice(alive)
        return self._host(f"host {len(self.network.hosts)}").name

    def _heard(self, event: StreamEvent) -> None:
        match event:
            case InferenceFinished(_, instance_id, output_tokens):
                law(instance_id == self._at, f"{event}, believed at {self._at}")
                law(output_tokens == len(self.log), f"{event}, delivered {len(self.log)}")
                law(self._ended_log, f"{event} before its last token")
                self._end("finished")
            case InferenceFailed():
                law(instance_of(event) == self._at, f"{event}, believed at {self._at}")
                self._end("failed")
            case InferenceStopped(_, instance_id):
                law(self._stopping and instance_id == self._at, f"{event} unasked")
                self._end("stopped")
            case MigrationFinished(move_id):
                self._moved(event, self._moves.pop(move_id, None))
            case MigrationFailed(move_id):
                law(self._moves.pop(move_id, None) is not None, f"{event} unasked")
                self.outcome.num_not_moved += 1
                if self.rng.random() < 0.3 and self._at is not None:
                    self._move_on(self._at)

    def _moved(self, event: MigrationFinished, order: MigrationOrder | None) -> None:
        law(order is not None, f"{event} unasked")
        law(event.source_id == self._at, f"{event}, believed at {self._at}")
        law(event.pause_s >= 0 and event.resume_s >= 0, f"{event} before its time")
        self._at = event.destination_id
        self.outcome.num_moved += 1
        if self._stopping:  # the controller says it again, where the request is
            at = self._at
            self._node.handle(lambda: self._node.owner.stop(at, self.clock.now_s))
        elif self.rng.random() < 0.3:
            self._move_on(event.destination_id)

    def _move_on(self, source_id: str) -> None:
        """Move again, perhaps to where it came from."""
        others = [
            name for name, node in self.network.hosts.items() if node.alive and name != source_id
        ]
        if others:
            destination_id = self.rng.choice(others)
            self.clock.after(
                self.rng.uniform(0, 0.3), lambda: self._resume(source_id, destination_id)
            )

    def _end(self, how: str) -> None:
        law(not self.outcome.ended, f"{how}, and {self.outcome.ended} before")
        self.outcome.ended, self._at = how, None

    # The laws at the end.

    def _check_end(self) -> None:
        law(bool(self.outcome.ended), f"the request has not ended; {len(self.log)} tokens came")
        if self._node.alive:
            law(self._node.owner.settled, "the owner still waits for hosts")
            law(not self._moves, f"never answered: {self._moves}")
        for node in self.network.hosts.values():
            law(not node.alive or node.empty, f"{node.name} still holds {node.core.num_streams}")
        law(
            self.outcome.ended != "finished" or len(self.log) == self.spec.max_output_tokens,
            f"{len(self.log)} tokens of {self.spec.max_output_tokens}",
        )
        self._check_tokens()

    def _check_tokens(self) -> None:
        """Each token follows from those before it by one host, which changes at a move only."""
        predictions = {
            node.name: predicted(node.origin, self.spec, self.log)
            for node in self.network.hosts.values()
        }
        possible = set(predictions)  # hosts that the last tokens may have come from
        num_changes = 0
        for index, token in enumerate(self.log):
            right = {name for name, tokens in predictions.items() if tokens[index] == token}
            law(bool(right), f"token {index} follows from no host's context")
            num_changes += not possible & right
            possible = possible & right or right
        num_routes = self.outcome.num_moved + self.outcome.num_interrupted
        num_routes += self.outcome.ended == "broken"  # a commit may have died with the owner
        law(num_changes <= num_routes, f"{num_changes} changes of host, {num_routes} of route")


def instance_of(event: InferenceFailed) -> str:
    return event.instance_id


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message on its way."""

    sender: Node
    action: Action


def predicted(origin: int, spec: SequenceSpec, log: list[int]) -> list[int]:
    """The token that a host of this origin generates after each beginning of the log."""
    state = origin
    for token in spec.prompt:
        state = splitmix64(state ^ token)
    tokens = []
    for index, token in enumerate(log):
        noise = 0
        if spec.sampling.temperature > 0:
            noise = splitmix64(splitmix64(spec.sampling.seed) + index)
        tokens.append(splitmix64(state ^ noise) % VOCABULARY)
        state = splitmix64(state ^ token)
    return tokens
