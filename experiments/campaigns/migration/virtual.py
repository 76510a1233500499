"""A world in virtual time: one owner, hosts with their engines, and messages on their way.

Nothing sleeps and nothing is threaded: the same code that runs in processes runs here on a heap of
events, so that a seed replays a run exactly.
"""

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from random import Random

from sllmreal.engine.slots import SlotEngine
from sllmreal.engine.timed import TimedModel, TimedOptions
from sllmreal.streams.host_core import HostCore
from sllmreal.streams.host_io import Connect, Disconnect, Expect, HostOptions, HostOutput

Action = Callable[[], None]


class Clock:
    """A heap of what happens when."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._heap: list[tuple[float, int, Action]] = []
        self._order = itertools.count()

    def at(self, time_s: float, action: Action) -> None:
        heapq.heappush(self._heap, (max(time_s, self.now_s), next(self._order), action))

    def after(self, delay_s: float, action: Action) -> None:
        self.at(self.now_s + delay_s, action)

    def run_next(self) -> bool:
        if not self._heap:
            return False
        self.now_s, _, action = heapq.heappop(self._heap)
        action()
        return True


class Node:
    """Something that handles what comes to it one after another, and may stall or die."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._mail: deque[Action] = deque()
        self._busy = False
        self._wakeup_s: float | None = None
        self.stalled_until_s = 0.0
        self.alive = True

    def handle(self, action: Action) -> None:
        """Do this when the node comes to it."""
        if self.alive:
            self._mail.append(action)
            self._go_on()

    def stall(self, duration_s: float) -> None:
        self.stalled_until_s = self._clock.now_s + duration_s
        self._clock.at(self.stalled_until_s, self._go_on)

    def _go_on(self) -> None:
        while self._mail and not self._busy and self.running:
            self._mail.popleft()()
            if self.alive and not self._mail:
                self.settle()

    @property
    def running(self) -> bool:
        return self.alive and self._clock.now_s >= self.stalled_until_s

    def settle(self) -> None:
        """Called after each action."""

    def wake_at(self, time_s: float | None, wakeup: Action) -> None:
        """Have `wakeup` handled then, unless another time is asked for first."""
        if time_s is None or (self._wakeup_s is not None and self._wakeup_s <= time_s):
            return
        self._wakeup_s = time_s

        def wake() -> None:
            if self._wakeup_s == time_s:
                self._wakeup_s = None
                self.handle(wakeup)

        self._clock.at(time_s, wake)


class HostNode(Node):
    """A host, its engine computing in virtual time.

    `origin` is where the engine's arithmetic begins: hosts of different origins hold the same
    weights and round differently, so that a context computed again goes on otherwise.
    """

    def __init__(
        self, clock: Clock, name: str, engine: TimedOptions, options: HostOptions, origin: int
    ) -> None:
        super().__init__(clock)
        self.name = name
        self.origin = origin
        self._step_s = 0.0
        model = TimedModel(engine, self._compute)
        model._origin = origin
        chunk = engine.prefill_chunk_tokens
        self.engine = SlotEngine(model, prefill_chunk_tokens=chunk, clock=lambda: 0.0)
        self.core = HostCore(self.engine, options)
        self.carry_out: Callable[[HostNode, HostOutput], None] = lambda _node, _output: None

    def settle(self) -> None:
        for output in self.core.take_outputs():
            if self.alive:  # a fault may strike at any of them
                self.carry_out(self, output)
        if not self.alive:
            return
        if self.core.has_work and not self._busy:
            self._step()
        self.wake_at(self.core.next_wakeup_s, lambda: self.core.advance(self._clock.now_s))

    @property
    def empty(self) -> bool:
        return self.core.num_streams == 0 and self.engine.statistics().num_sequences == 0

    def _step(self) -> None:
        self._busy, self._step_s = True, 0.0
        tokens = self.engine.step()

        def stepped() -> None:
            self._busy = False
            self._mail.appendleft(lambda: self.core.receive_tokens(tokens, self._clock.now_s))
            self._go_on()

        self._clock.after(self._step_s, stepped)

    def _compute(self, duration_s: float) -> None:
        self._step_s += duration_s


class Network:
    """The links between hosts. `deliver` decides what becomes of a message."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.hosts: dict[str, HostNode] = {}
        self._expected: dict[bytes, HostNode] = {}
        self._links: dict[tuple[bytes, str], HostNode] = {}  # by ticket and sender

    def connect(self, node: HostNode, effect: Connect, lost: Callable[[], None]) -> None:
        peer = self._expected.get(effect.link_id)
        if peer is None or not peer.alive or peer.name != effect.address:
            lost()
            return
        self._links[effect.link_id, node.name] = peer
        self._links[effect.link_id, peer.name] = node

    def expect(self, node: HostNode, effect: Expect) -> None:
        self._expected[effect.link_id] = node

    def disconnect(self, node: HostNode, effect: Disconnect) -> None:
        if self._expected.get(effect.link_id) is node:
            del self._expected[effect.link_id]
        self._links.pop((effect.link_id, node.name), None)

    def peer(self, link_id: bytes, node: HostNode) -> HostNode | None:
        return self._links.get((link_id, node.name))

    def links_to(self, dead: HostNode) -> list[tuple[bytes, HostNode]]:
        """Links that break when a host dies, with the host that will be told."""
        return [
            (link_id, self.hosts[name])
            for (link_id, name), peer in self._links.items()
            if peer is dead and name in self.hosts
        ]


__all__ = ["Clock", "HostNode", "Network", "Node"]
