"""A peer's side of its link to the leader: executes each order once, reports each event once.

The link outlives connections and leaders. Reports that no leader has logged are sent again to the
next one; an order that was executed before is recognized by its id and dropped.
"""

import asyncio
import logging
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
_LOG = logging.getLogger(__name__)


class PeerHandler(Protocol):
    """The part of a peer that acts on the leader's messages. Its methods must not block."""

    def offer(self) -> WorkerOffer | None:
        """Return what a worker brings into the cluster now; None for a gateway."""
        ...

    def execute(self, order: Order) -> None:
        """Carry out an order. Orders come in the order of their ids."""
        ...

    def deployed(self, models: tuple[ModelDeployment, ...]) -> None:
        """Take over the models that are deployed."""
        ...

    def alive(self, addresses: tuple[str, ...]) -> None:
        """Take over the data planes of the workers that are not lost."""
        ...

    def reset(self) -> Awaitable[None]:
        """Drop everything that belongs to the incarnation that was marked lost."""
        ...


class LeaderLink:
    """Keeps a peer attached to the present leader, until `run` is cancelled.

    Args:
        kind: The kind of the peer.
        peer_id: The peer's name; a worker's is its server's id.
        dial: Finds and connects to the present leader. Raises ChannelClosedError.
        settings: Times.

    Attributes:
        incarnation: The present incarnation of the peer.
        num_leaders: The number of leaders that the link has been attached to.
        received_at_s: Monotonic time of the last message from a leader; None: none has come.
        loads: The counts that a leader sent last; None: none have come.
        unservable: By name of the model, the reasons why no server can run it.
        connected: Set while the link is attached.
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
        self._term = 0
        self._zero_at_s = 0.0
        self.num_leaders = 0
        self.received_at_s: float | None = None
        self.loads: LoadStats | None = None
        self.unservable: dict[str, str] = {}
        self.connected = asyncio.Event()
        self._begin_incarnation()

    def _begin_incarnation(self) -> None:
        self.incarnation = uuid.uuid4().hex
        self._last_order = 0
        self._last_logged = 0
        self._num_reports = 0
        self._unlogged: deque[EventReport] = deque()

    @property
    def num_unlogged(self) -> int:
        """The number of reports that the leader has not acknowledged as logged."""
        return len(self._unlogged)

    def now_s(self) -> float:
        """Return the cluster's time. Meaningful once the link has been connected."""
        return time.time() - self._zero_at_s

    def report(self, event: ReportedEvent) -> None:
        """Report an event to the controller, which gets it once, across connections and leaders."""
        self._num_reports += 1
        message = report(self._num_reports, event)
        self._unlogged.append(message)
        if self.connected.is_set():
            self._post(message)

    async def run(self, handler: PeerHandler) -> None:
        """Stay attached; `handler` carries out orders."""
        ids = {"peer": self._peer_id}
        while True:
            try:
                self._channel = channel = await self._dial()
                await self._serve(channel, handler)
            except ChannelClosedError as error:
                if self.connected.is_set():
                    _LOG.warning("detached from the leader: %s", error, extra=ids)
                else:
                    _LOG.debug("no leader yet: %s", error, extra=ids)
                await asyncio.sleep(self._settings.redial_s)
            finally:
                self.connected.clear()
                if self._channel is not None:
                    self._channel.close()

    async def _serve(self, channel: LeaderChannel, handler: PeerHandler) -> None:
        offer = handler.offer()
        channel.post(
            Hello(
                version=VERSION,
                kind=self._kind,
                peer_id=self._peer_id,
                incarnation=self.incarnation,
                last_order=self._last_order,
                last_logged=self._last_logged,
                offer=offer,
            )
        )
        heartbeat = Heartbeat(
            self._settings, channel, lambda: channel.post(OrdersExecuted(self._last_order))
        )
        async with heartbeat.beating():
            while True:
                message = await channel.receive()
                heartbeat.received()
                self.received_at_s = time.monotonic()
                await self._receive(message, handler)

    async def _receive(self, message: FromLeader, handler: PeerHandler) -> None:
        match message:
            case Welcome():
                self._receive_welcome(message)
            case ReportsLogged(last_report):
                self._note_logged(last_report)
            case DeployedModels(models, unservable):
                self.unservable = unservable
                handler.deployed(models)
            case Reset(reason):
                _LOG.warning("reset by the leader: %s", reason, extra={"peer": self._peer_id})
                await self._reset(handler)
                raise ChannelClosedError(f"this incarnation was reset: {reason}")
            case WorkerAddresses(addresses):
                handler.alive(addresses)
            case LoadStats():
                self.loads = message
            case OperatorDone() | OperatorRefused() | ClusterStatus():
                pass  # answers to operators, which this link does not ask for
            case _:
                self._execute(message, handler)

    def _receive_welcome(self, welcome: Welcome) -> None:
        if welcome.term < self._term:
            raise ChannelClosedError(
                f"the leader of term {welcome.term} is deposed by that of term {self._term}"
            )
        if welcome.term > self._term:
            self.num_leaders += 1
        _LOG.info("attached to the leader of term %d", welcome.term, extra={"peer": self._peer_id})
        self._term, self._zero_at_s = welcome.term, welcome.zero_at_s
        self._note_logged(welcome.last_report)
        self.connected.set()
        for message in tuple(self._unlogged):
            self._post(message)

    async def _reset(self, handler: PeerHandler) -> None:
        """Drop everything, and become a new incarnation.

        A worker's reports during the reset belong to the old incarnation, and are dropped with it.
        A gateway reports its open requests again during the reset: for the new incarnation.
        """
        if self._kind == "gateway":
            self._begin_incarnation()
            await handler.reset()
        else:
            await handler.reset()
            self._begin_incarnation()

    def _execute(self, order: Order, handler: PeerHandler) -> None:
        if order.id > self._last_order:
            handler.execute(order)
            self._last_order = order.id

    def _note_logged(self, last_report: int) -> None:
        self._last_logged = max(self._last_logged, last_report)
        while self._unlogged and self._unlogged[0].number <= last_report:
            self._unlogged.popleft()

    def _post(self, message: Any) -> None:
        """Post if there is a connection; `receive` raises if it is broken."""
        try:
            if self._channel is not None:
                self._channel.post(message)
        except ChannelClosedError:
            self._channel = None
