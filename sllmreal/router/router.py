"""The gateway's desk: every open request, its stream, and what the leader orders about it.

The desk is the truth about requests as workers are about instances. It reports arrivals, ends and
moves to whoever leads, and carries out the orders about them by talking to engines directly; no
token goes through the leader.
"""

import asyncio
import secrets
from collections.abc import Callable
from typing import Protocol, assert_never

from sllmcore.errors import ControlError
from sllmcore.events import (
    InferenceFailed,
    InferenceFinished,
    InferenceStopped,
    MigrationFailed,
    MigrationFinished,
    RequestArrived,
    RequestCancelled,
)
from sllmcore.migration_strategy import StrategyChooser
from sllmcore.types import Request
from sllmreal.control.deployment import ModelDeployment
from sllmreal.control.messages import (
    AbortMigration,
    GatewayOrder,
    Order,
    RejectRequest,
    ReportedEvent,
    StartMigration,
    StartRequest,
    StopRequest,
    WorkerOffer,
)
from sllmreal.gateway.backend import (
    FailedError,
    Generated,
    GenerationRequest,
    RejectedError,
    TimedOutError,
)
from sllmreal.router.pending_generation import PendingGeneration
from sllmreal.router.strategy import migration_facts
from sllmreal.streams import messages as wire
from sllmreal.streams.owner_io import DeliverTokens, MigrationOrder, ReportEvent, SendToHost

MOVE_KEY_BYTES = 32


class HostConnections(Protocol):
    """Connections to engines, by the address of their worker's data plane."""

    def send(self, address: str, instance_id: str, message: wire.ToHost) -> None:
        """Say this to an instance's host. It may get lost."""
        ...

    def online(self, instance_id: str) -> wire.HostOnline | None:
        """What an instance's host said of itself; None where it has not been spoken to."""
        ...

    def keep(self, addresses: tuple[str, ...]) -> None:
        """Workers elsewhere are lost: close what leads there."""
        ...


class LeaderPort(Protocol):
    """To the leader: `LeaderLink`."""

    def report(self, event: ReportedEvent) -> None: ...

    def now_s(self) -> float: ...


class RequestRouter:
    """Open requests by id. Everything happens in one event loop.

    Args:
        plane: To the engines.
        link: To the leader; this desk is its handler.
        chooser: Decides how each request moves.
    """

    def __init__(
        self, plane: HostConnections, link: LeaderPort, chooser: StrategyChooser | None = None
    ) -> None:
        self.models: dict[str, ModelDeployment] = {}
        self.calls: dict[str, PendingGeneration] = {}
        self.num_workers = 0
        self.recomputed_tokens = 0  # of requests that have moved
        self.heard: list[Callable[[ReportedEvent], None]] = []  # who else wants to know events
        self._plane = plane
        self._link = link
        self._chooser = chooser or StrategyChooser()
        self._addresses: dict[str, str] = {}  # of instances, by id
        self._users: dict[str, dict[str, None]] = {}  # requests, by instance

    # From clients.

    def submit(self, submission: GenerationRequest) -> PendingGeneration:
        """Take a request in."""
        call = PendingGeneration(submission, self._left)
        self.calls[submission.request_id] = call
        self._report_arrival(call)
        return call

    def _report_arrival(self, call: PendingGeneration) -> None:
        submission = call.submission
        request = Request(
            submission.request_id,
            submission.model,
            self._link.now_s(),
            len(submission.prompt),
            submission.tenant,
        )
        self._link.report(RequestArrived(request))

    def _left(self, call: PendingGeneration) -> None:
        self._link.report(RequestCancelled(call.submission.request_id))
        if call.owner.settled:  # it runs nowhere: the leader's Stop, if any, finds nothing
            self.calls.pop(call.submission.request_id, None)

    # From the leader: the handler of a `LeaderLink`.

    def offer(self) -> WorkerOffer | None:
        return None

    def deployed(self, models: tuple[ModelDeployment, ...]) -> None:
        self.models = {model.name: model for model in models}

    def alive(self, addresses: tuple[str, ...]) -> None:
        """Whatever ran on other workers is lost."""
        self.num_workers = len(addresses)
        self._plane.keep(addresses)
        lost = [one for one, address in self._addresses.items() if address not in addresses]
        for instance_id in lost:
            self.gone(instance_id)

    async def reset(self) -> None:
        """The leader has cancelled all requests of this desk: those that are open arrive anew,
        with what their clients have got. What still runs of them ends with its lease."""
        for call in list(self.calls.values()):
            self._disarm(call)
            self._forget(call)
            if not call.over:
                call.begin_anew()
                self.calls[call.submission.request_id] = call
                self._report_arrival(call)

    def execute(self, order: Order) -> None:
        assert isinstance(
            order, StartRequest | StopRequest | StartMigration | AbortMigration | RejectRequest
        ), "a gateway gets orders about requests"
        call = self.calls.get(order.request_id)
        if call is None:
            self._answer_for_nobody(order)
        else:
            self._carry_out(order, call)
            self._settle(call)

    def _answer_for_nobody(self, order: GatewayOrder) -> None:
        """The request has ended here, and the leader will hear so; but some orders want answers."""
        match order:
            case StartRequest(_, request_id, instance_id) | StopRequest(_, request_id, instance_id):
                self._link.report(InferenceStopped(request_id, instance_id, 0))
            case StartMigration():
                self._link.report(
                    MigrationFailed(
                        order.move_id, order.request_id, order.destination_id, "it has ended"
                    )
                )
            case AbortMigration() | RejectRequest():
                pass
            case _:
                assert_never(order)

    def _carry_out(self, order: GatewayOrder, call: PendingGeneration) -> None:
        now_s = self._link.now_s()
        match order:
            case StartRequest(_, _, instance_id, address):
                self._use(instance_id, address, call)
                self._watch_start(call, instance_id, now_s)
                call.owner.infer(instance_id, now_s)
                if not address:  # its worker died, and the leader is about to say so
                    call.owner.lost(instance_id, now_s)
            case StopRequest(_, _, instance_id):
                call.owner.stop(instance_id, now_s)
            case StartMigration():
                self._move(order, call, now_s)
            case AbortMigration(_, move_id):
                call.owner.abort(move_id, now_s)
            case RejectRequest(_, _, reason, timed_out):
                call.fail(TimedOutError(reason) if timed_out else RejectedError(reason))
            case _:
                assert_never(order)

    def _move(self, order: StartMigration, call: PendingGeneration, now_s: float) -> None:
        source = self._plane.online(order.source_id)
        destination = self._plane.online(order.destination_id)
        if source is None or destination is None:
            reason = "the engines are not known"
            self._link.report(
                MigrationFailed(order.move_id, order.request_id, order.destination_id, reason)
            )
            return
        self._use(order.destination_id, order.destination_address, call)
        facts = migration_facts(
            call.owner.num_context,
            source.capabilities,
            destination.capabilities,
            order.source_address,
            order.destination_address,
        )
        terms = wire.MigrationParams(
            secrets.token_bytes(MOVE_KEY_BYTES),
            source.capabilities.model,
            source.capabilities.kv_layout,
            self._chooser.begin_migration(order.request_id, facts).replay_tokens,
        )
        move = MigrationOrder(
            order.move_id, order.source_id, order.destination_id, destination.address, terms
        )
        call.owner.resume(move, now_s)

    def _watch_start(self, call: PendingGeneration, instance_id: str, now_s: float) -> None:
        """What a prefill takes is worth knowing: replaying is one."""
        online = self._plane.online(instance_id)
        if online is not None:
            request_id, model = call.submission.request_id, online.capabilities.model
            self._chooser.begin_prefill(request_id, model, call.owner.num_context, now_s)

    # From engines: what the data plane calls.

    def received(self, instance_id: str, request_id: str, message: wire.ToOwner) -> None:
        """A host says something about a request."""
        call = self.calls.get(request_id)
        if call is not None:
            call.owner.receive(instance_id, message, self._link.now_s())
            self._settle(call)
        elif isinstance(message, wire.Tokens | wire.StreamReady):
            stop = wire.StopStream(message.request_id, message.epoch)
            self._plane.send(self._addresses.get(instance_id, ""), instance_id, stop)

    def gone(self, instance_id: str) -> None:
        """An instance is not there any more."""
        self._addresses.pop(instance_id, None)
        for request_id in self._users.pop(instance_id, ()):
            call = self.calls.get(request_id)
            if call is not None:
                call.owner.lost(instance_id, self._link.now_s())
                self._settle(call)

    # What owners want.

    def _use(self, instance_id: str, address: str, call: PendingGeneration) -> None:
        self._addresses[instance_id] = address
        self._users.setdefault(instance_id, {})[call.submission.request_id] = None
        call.instances.add(instance_id)

    def _settle(self, call: PendingGeneration) -> None:
        """Do what the owner wants done, see to its next wake-up, and forget it when all is done."""
        for output in call.owner.take_outputs():
            match output:
                case SendToHost(instance_id, message):
                    self._plane.send(self._addresses.get(instance_id, ""), instance_id, message)
                case DeliverTokens(_, tokens, finish):
                    self._chooser.end_prefill(call.submission.request_id, self._link.now_s())
                    call.give(Generated(tokens, finish))
                case ReportEvent(event, num_recomputed):
                    self.recomputed_tokens += num_recomputed
                    self._report(call, event)
                case _:
                    assert_never(output)
        if call.over and call.owner.settled:
            self._disarm(call)
            self._forget(call)
        else:
            self._arm(call)

    def _report(self, call: PendingGeneration, event: ReportedEvent) -> None:
        if isinstance(event, InferenceFailed):
            call.fail(FailedError(event.reason))
        elif isinstance(event, InferenceFinished) and not call.over:
            raise ControlError(f"{event.request_id} finished and its client does not know")
        elif isinstance(event, MigrationFinished | MigrationFailed):
            self._chooser.end_migration(event)
        self._link.report(event)
        for listener in self.heard:
            listener(event)

    def _forget(self, call: PendingGeneration) -> None:
        request_id = call.submission.request_id
        self.calls.pop(request_id, None)
        self._chooser.forget(request_id)
        for instance_id in call.instances:
            users = self._users.get(instance_id, {})
            users.pop(request_id, None)
            if not users:
                self._users.pop(instance_id, None)
                self._addresses.pop(instance_id, None)
        call.instances.clear()

    def _arm(self, call: PendingGeneration) -> None:
        """Wake the owner when it wants to be, or a little before."""
        at_s = call.owner.next_wakeup_s
        if at_s is None or call.timer_at_s <= at_s:
            return
        self._disarm(call)
        call.timer_at_s = at_s
        delay_s = max(0.0, at_s - self._link.now_s())
        call.timer = asyncio.get_running_loop().call_later(delay_s, self._wake, call)

    @staticmethod
    def _disarm(call: PendingGeneration) -> None:
        if call.timer is not None:
            call.timer.cancel()
        call.timer, call.timer_at_s = None, float("inf")

    def _wake(self, call: PendingGeneration) -> None:
        call.timer, call.timer_at_s = None, float("inf")
        call.owner.wakeup(self._link.now_s())
        self._settle(call)
