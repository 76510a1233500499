"""A peer's side of its link to the leader: orders executed once, reports heard once.

The link outlives connections and leaders. What was reported and not yet heard is sent again to
whoever leads; an order that was executed before is passed over by its id.
"""

import asyncio
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Literal, Protocol

from sllmreal.control.deployment import ModelDeployment
from sllmreal.control.heartbeat import Heartbeat, LinkSettings
from sllmreal.control.messages import (
    VERSION,
    ClusterStatus,
    DeployedModels,
    EventReport,
    FromLeader,
    FromPeer,
    Hello,
    LoadStats,
    OperatorDone,
    OperatorRefused,
    Order,
    OrdersExecuted,
    ReportedEvent,
    ReportsLogged,
    Reset,
    Welcome,
    WorkerAddresses,
    WorkerOffer,
    report,
)
from sllmreal.transport.channel import Channel
from sllmreal.transport.errors import ChannelClosedError

LeaderChannel = Channel[FromPeer, FromLeader]


class PeerHandler(Protocol):
    """What a peer does. Nothing here may block."""

    def offer(self) -> WorkerOffer | None:
        """What to bring into the cluster now."""
        ...

    def execute(self, order: Order) -> None:
        """Carry out an order. They come in the order of their ids."""
        ...

    def deployed(self, models: tuple[ModelDeployment, ...]) -> None:
        """These are the cluster's models."""
        ...

    def alive(self, addresses: tuple[str, ...]) -> None:
        """These are the data planes of the workers that are not lost."""
        ...

    def reset(self) -> Awaitable[None]:
        """Drop everything that belongs to the incarnation that was declared lost."""
        ...


class LeaderLink:
    """Keeps a peer attached to whoever leads, until `run` is cancelled.

    Args:
        kind: What the peer is.
        peer_id: Its name; a worker's is its server's id.
        dial: Finds and connects to the present leader. Raises ChannelClosedError.
        settings: Time-outs.
    """

    def __init__(
        self,
        kind: Literal["worker", "gateway"],
        peer_id: str,
        dial: Callable[[], Awaitable[LeaderChannel]],
        settings: LinkSettings | None = None,
    ) -> None:
        self._kind: Literal["worker", "gateway"] = kind
        self._peer_id = peer_id
        self._dial = dial
        self._settings = settings or LinkSettings()
        self._channel: LeaderChannel | None = None
        self._epoch = 0
        self._zero_at_s = 0.0
        self.num_leaders = 0
        self.heard_at_s: float | None = None  # when a leader last said anything, monotonically
        self.loads: LoadStats | None = None  # as the leader last said
        self.connected = asyncio.Event()
        self._begin()

    def _begin(self) -> None:
        self.incarnation = uuid.uuid4().hex
        self._last_order = 0
        self._last_heard = 0
        self._num_reports = 0
        self._unheard: deque[EventReport] = deque()

    @property
    def num_unheard(self) -> int:
        """Reports that are not known to be in the journal."""
        return len(self._unheard)

    def now_s(self) -> float:
        """The cluster's time. Meaningful once the link has been connected."""
        return time.time() - self._zero_at_s

    def report(self, event: ReportedEvent) -> None:
        """Have the controller hear of an event, once, whatever happens to connections."""
        self._num_reports += 1
        message = report(self._num_reports, event)
        self._unheard.append(message)
        if self.connected.is_set():
            self._post(message)

    async def run(self, handler: PeerHandler) -> None:
        """Stay attached; `handler` carries orders out."""
        while True:
            try:
                self._channel = channel = await self._dial()
                await self._attached(channel, handler)
            except ChannelClosedError:
                await asyncio.sleep(self._settings.redial_s)
            finally:
                self.connected.clear()
                if self._channel is not None:
                    self._channel.close()

    async def _attached(self, channel: LeaderChannel, handler: PeerHandler) -> None:
        offer = handler.offer()
        channel.post(
            Hello(
                VERSION,
                self._kind,
                self._peer_id,
                self.incarnation,
                self._last_order,
                self._last_heard,
                offer,
            )
        )
        pulse = Heartbeat(
            self._settings, channel, lambda: channel.post(OrdersExecuted(self._last_order))
        )
        async with pulse.beating():
            while True:
                message = await channel.receive()
                pulse.heard()
                self.heard_at_s = time.monotonic()
                await self._take(message, handler)

    async def _take(self, message: FromLeader, handler: PeerHandler) -> None:
        match message:
            case Welcome():
                self._welcomed(message)
            case ReportsLogged(last_report):
                self._forget(last_report)
            case DeployedModels(models):
                handler.deployed(models)
            case Reset():
                await self._reset(handler)
                raise ChannelClosedError(f"declared lost: {message.reason}")
            case WorkerAddresses(addresses):
                handler.alive(addresses)
            case LoadStats():
                self.loads = message
            case OperatorDone() | OperatorRefused() | ClusterStatus():
                pass  # answers are for those who asked
            case _:
                self._execute(message, handler)

    def _welcomed(self, welcome: Welcome) -> None:
        if welcome.term < self._epoch:
            raise ChannelClosedError(f"leader {welcome.term} is deposed by {self._epoch}")
        if welcome.term > self._epoch:
            self.num_leaders += 1
        self._epoch, self._zero_at_s = welcome.term, welcome.zero_at_s
        self._forget(welcome.last_report)
        self.connected.set()
        for unheard in tuple(self._unheard):
            self._post(unheard)

    async def _reset(self, handler: PeerHandler) -> None:
        """What a worker says while it drops things belongs to the incarnation that was lost; the
        requests that arrive anew at a gateway belong to the next one."""
        if self._kind == "gateway":
            self._begin()
            await handler.reset()
        else:
            await handler.reset()
            self._begin()

    def _execute(self, order: Order, handler: PeerHandler) -> None:
        if order.id > self._last_order:
            handler.execute(order)
            self._last_order = order.id

    def _forget(self, last_report: int) -> None:
        self._last_heard = max(self._last_heard, last_report)
        while self._unheard and self._unheard[0].number <= last_report:
            self._unheard.popleft()

    def _post(self, message: Any) -> None:
        """Send if there is a connection; `receive` will notice if there is none."""
        try:
            if self._channel is not None:
                self._channel.post(message)
        except ChannelClosedError:
            self._channel = None
