"""Virtual time for the simulated campaign: a clock, processes, engine hosts and their links.

There are no threads and no sleeping. The code that otherwise runs in processes runs here on a heap
of timed actions, so a seed reproduces a run exactly.
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


class VirtualClock:
    """A heap of timed actions; ties: first added, first run."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._heap: list[tuple[float, int, Action]] = []
        self._order = itertools.count()

    def at(self, time_s: float, action: Action) -> None:
        """Run an action at `time_s`, or next if that time has passed."""
        heapq.heappush(self._heap, (max(time_s, self.now_s), next(self._order), action))

    def after(self, delay_s: float, action: Action) -> None:
        """Run an action `delay_s` from now."""
        self.at(self.now_s + delay_s, action)

    def run_next(self) -> bool:
        """Run the next action; return False if there is none."""
        if not self._heap:
            return False
        self.now_s, _, action = heapq.heappop(self._heap)
        action()
        return True


class VirtualNode:
    """A process that handles actions one after another, and that may stall or die."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._inbox: deque[Action] = deque()
        self._busy = False
        self._wakeup_s: float | None = None
        self.stalled_until_s = 0.0
        self.alive = True

    def handle(self, action: Action) -> None:
        """Queue an action; a dead node drops it."""
        if self.alive:
            self._inbox.append(action)
            self._handle_queued()

    def stall(self, duration_s: float) -> None:
        """Handle no action for `duration_s`; queued actions follow afterwards."""
        self.stalled_until_s = self._clock.now_s + duration_s
        self._clock.at(self.stalled_until_s, self._handle_queued)

    def _handle_queued(self) -> None:
        while self._inbox and not self._busy and self.running:
            self._inbox.popleft()()
            if self.alive and not self._inbox:
                self.settle()

    @property
    def running(self) -> bool:
        """True if the node is alive and not stalled."""
        return self.alive and self._clock.now_s >= self.stalled_until_s

    def settle(self) -> None:
        """Carry out the consequences of the actions. Called when the queue is empty."""

    def wake_at(self, time_s: float | None, wakeup: Action) -> None:
        """Handle `wakeup` at `time_s`, unless an earlier time is set already."""
        if time_s is None or (self._wakeup_s is not None and self._wakeup_s <= time_s):
            return
        self._wakeup_s = time_s

        def wake() -> None:
            if self._wakeup_s == time_s:
                self._wakeup_s = None
                self.handle(wakeup)

        self._clock.at(time_s, wake)


class VirtualHost(VirtualNode):
    """An engine host with an engine that computes in virtual time.

    Attributes:
        origin: Initial state of the engine's arithmetic. Hosts with different origins stand for
            engines with the same weights that round differently: a recomputed context leads to
            other tokens.
        carry_out: Receives the effects of the host.
    """

    def __init__(
        self,
        clock: VirtualClock,
        name: str,
        engine: TimedOptions,
        options: HostOptions,
        origin: int,
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
        self.carry_out: Callable[[VirtualHost, HostOutput], None] = lambda _host, _effect: None

    def settle(self) -> None:
        """Carry out the host's effects, start a step of the engine, and set the timer."""
        for effect in self.core.take_outputs():
            if self.alive:  # an effect may cause a fault that kills this host
                self.carry_out(self, effect)
        if not self.alive:
            return
        if self.core.has_work and not self._busy:
            self._step()
        self.wake_at(self.core.next_wakeup_s, lambda: self.core.advance(self._clock.now_s))

    @property
    def empty(self) -> bool:
        """True if host and engine hold nothing."""
        return self.core.num_streams == 0 and self.engine.statistics().num_sequences == 0

    def _step(self) -> None:
        self._busy, self._step_s = True, 0.0
        tokens = self.engine.step()

        def stepped() -> None:
            self._busy = False
            self._inbox.appendleft(lambda: self.core.receive_tokens(tokens, self._clock.now_s))
            self._handle_queued()

        self._clock.after(self._step_s, stepped)

    def _compute(self, duration_s: float) -> None:
        self._step_s += duration_s


class VirtualNetwork:
    """The hosts, and the migration links between them."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.hosts: dict[str, VirtualHost] = {}
        self._expected: dict[bytes, VirtualHost] = {}
        self._links: dict[tuple[bytes, str], VirtualHost] = {}  # receiver by link id and sender

    def connect(self, node: VirtualHost, effect: Connect, lost: Callable[[], None]) -> None:
        """Connect a source with its destination; call `lost` if that one does not expect it."""
        peer = self._expected.get(effect.link_id)
        if peer is None or not peer.alive or peer.name != effect.address:
            lost()
            return
        self._links[effect.link_id, node.name] = peer
        self._links[effect.link_id, peer.name] = node

    def expect(self, node: VirtualHost, effect: Expect) -> None:
        """Accept a later connection at a destination."""
        self._expected[effect.link_id] = node

    def disconnect(self, node: VirtualHost, effect: Disconnect) -> None:
        """Remove one direction of a link, and a destination's expectation."""
        if self._expected.get(effect.link_id) is node:
            del self._expected[effect.link_id]
        self._links.pop((effect.link_id, node.name), None)

    def peer(self, link_id: bytes, node: VirtualHost) -> VirtualHost | None:
        """Return the other end of a link; None if it is not connected."""
        return self._links.get((link_id, node.name))

    def links_to(self, dead: VirtualHost) -> list[tuple[bytes, VirtualHost]]:
        """Return the links that break when a host dies, each with the host at its other end."""
        return [
            (link_id, self.hosts[name])
            for (link_id, name), peer in self._links.items()
            if peer is dead and name in self.hosts
        ]
