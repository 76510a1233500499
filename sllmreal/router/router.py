"""The gateway's request router: all open requests, their streams, and the leader's messages.

The gateway is authoritative for requests as workers are for instances. The router reports arrivals,
ends and migrations to the leader, and carries out the leader's messages about requests by sending
messages to engine hosts. No token passes through the leader.
"""

import logging
from collections.abc import Callable
from typing import assert_never

from sllmcore.errors import ClusterError, ControlError
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
from sllmreal.router.instance_users import InstanceUsers
from sllmreal.router.migration_planner import MigrationPlanner
from sllmreal.router.pending_generation import PendingGeneration
from sllmreal.router.ports import HostConnections, LeaderPort
from sllmreal.router.silence import SilenceLimits
from sllmreal.streams import messages
from sllmreal.streams.owner_io import DeliverTokens, ReportEvent, SendToHost

_LOG = logging.getLogger(__name__)


class RequestRouter:
    """Open generations by request id. All methods are called in one event loop.

    Args:
        connections: To the engine hosts.
        link: To the leader; this router is its handler.
        chooser: Decides how the context of each migrating request is transferred.
        limits: Times after which a generation without progress is restarted or fails.

    Attributes:
        models: Deployed models by name.
        generations: Open generations by request id, and ended ones that a host may still hold.
        event_listeners: Called with each event about a generation, after it was reported.
    """

    def __init__(
        self,
        connections: HostConnections,
        link: LeaderPort,
        chooser: StrategyChooser | None = None,
        limits: SilenceLimits | None = None,
    ) -> None:
        self.models: dict[str, ModelDeployment] = {}
        self.generations: dict[str, PendingGeneration] = {}
        self.num_workers = 0
        self.recomputed_tokens = 0  # by the destinations of finished migrations
        self.event_listeners: list[Callable[[ReportedEvent], None]] = []
        self._connections = connections
        self._link = link
        self._chooser = chooser or StrategyChooser()
        self._limits = limits or SilenceLimits()
        self._planner = MigrationPlanner(connections, self._chooser)
        self._users = InstanceUsers()

    # From clients.

    def submit(self, request: GenerationRequest) -> PendingGeneration:
        """Report the arrival of a request, and return its generation."""
        generation = PendingGeneration(request, self._cancelled, self._link.now_s())
        self.generations[request.request_id] = generation
        self._report_arrival(generation)
        self._set_timer(generation)
        return generation

    def _report_arrival(self, generation: PendingGeneration) -> None:
        request = generation.request
        arrived = Request(
            id=request.request_id,
            model=request.model,
            arrived_at_s=self._link.now_s(),
            input_tokens=len(request.prompt),
            tenant=request.tenant,
        )
        self._link.report(RequestArrived(arrived))

    def _cancelled(self, generation: PendingGeneration) -> None:
        request_id = generation.request.request_id
        self._link.report(RequestCancelled(request_id))
        if generation.owner.settled:  # no host holds it: a StopRequest needs no message to a host
            generation.cancel_timer()
            self.generations.pop(request_id, None)

    # From the leader (`PeerHandler`).

    def offer(self) -> WorkerOffer | None:
        """Return None: a gateway brings no server into the cluster."""
        return None

    def deployed(self, models: tuple[ModelDeployment, ...]) -> None:
        """Replace the deployed models; requests that wait for one that cannot run fail."""
        self.models = {model.name: model for model in models}
        for generation in list(self.generations.values()):
            reason = self._link.unservable.get(generation.request.model)
            waits = not generation.ended and generation.owner.instance_id is None
            if reason is not None and waits:
                generation.fail(FailedError(reason))
                self._cancelled(generation)

    def alive(self, addresses: tuple[str, ...]) -> None:
        """Connect to these workers; the instances of all others are lost."""
        self.num_workers = len(addresses)
        self._connections.set_workers(addresses)
        for instance_id in self._users.at_other_workers(addresses):
            self.lose_instance(instance_id)

    async def reset(self) -> None:
        """Submit all open generations again, as new requests that continue their output.

        The leader has cancelled all requests of this gateway. Engine hosts drop their streams when
        the lease expires.
        """
        _LOG.warning(
            "reset by the leader: %d open requests are submitted again",
            sum(not generation.ended for generation in self.generations.values()),
        )
        for generation in list(self.generations.values()):
            generation.cancel_timer()
            self._forget(generation)
            if not generation.ended:
                self._submit_again(generation)

    def _submit_again(self, generation: PendingGeneration) -> None:
        """Submit a generation as a new request that continues its output."""
        generation.renew()
        generation.progress_at_s = self._link.now_s()
        self.generations[generation.request.request_id] = generation
        self._report_arrival(generation)
        self._set_timer(generation)

    def execute(self, message: Order) -> None:
        """Carry out a message about a request."""
        assert isinstance(
            message, StartRequest | StopRequest | StartMigration | AbortMigration | RejectRequest
        ), "a gateway gets messages about requests only"
        generation = self.generations.get(message.request_id)
        if generation is None:
            self._answer_ended(message)
        else:
            self._carry_out(message, generation)
            self._carry_out_outputs(generation)

    def _answer_ended(self, message: GatewayOrder) -> None:
        """Answer a message about a request that has ended here.

        The leader receives the report of the end too, but waits for an answer to some messages.
        """
        match message:
            case StartRequest(_, request_id, instance_id) | StopRequest(_, request_id, instance_id):
                self._link.report(InferenceStopped(request_id, instance_id, 0))
            case StartMigration():
                self._link.report(
                    MigrationFailed(
                        message.move_id,
                        message.request_id,
                        message.destination_id,
                        "the request has ended",
                    )
                )
            case AbortMigration() | RejectRequest():
                pass
            case _:
                assert_never(message)

    def _carry_out(self, message: GatewayOrder, generation: PendingGeneration) -> None:
        now_s = self._link.now_s()
        match message:
            case StartRequest(_, _, instance_id, address):
                self._start(generation, instance_id, address, now_s)
            case StopRequest(_, _, instance_id):
                generation.owner.stop(instance_id, now_s)
            case StartMigration():
                self._migrate(message, generation, now_s)
            case AbortMigration(_, move_id):
                generation.owner.abort_migration(move_id, now_s)
            case RejectRequest():
                generation.fail(_error(message))
            case _:
                assert_never(message)

    def _start(
        self, generation: PendingGeneration, instance_id: str, address: str, now_s: float
    ) -> None:
        request_id, owner = generation.request.request_id, generation.owner
        ids = {"request": request_id, "instance": instance_id, "model": generation.request.model}
        if generation.instances:
            _LOG.info("request restarts at output token %d", len(owner.output), extra=ids)
        else:
            _LOG.debug("request starts", extra=ids)
        self._use(instance_id, address, generation)
        generation.progress_at_s = now_s
        online = self._connections.online(instance_id)
        if online is not None:  # the chooser learns from the time of this prefill
            model = online.capabilities.model
            self._chooser.begin_prefill(request_id, model, owner.num_context, now_s)
        owner.start(instance_id, now_s)
        if not address:  # the leader reports the loss of the worker next
            _LOG.warning("no worker has the instance: its server is lost", extra=ids)
            owner.lose_instance(instance_id, now_s)

    def _migrate(
        self, message: StartMigration, generation: PendingGeneration, now_s: float
    ) -> None:
        try:
            spec = self._planner.spec(message, generation.owner.num_context)
        except ClusterError as error:
            failed = MigrationFailed(
                message.move_id, message.request_id, message.destination_id, str(error)
            )
            _log_event(failed)
            self._link.report(failed)
            return
        self._use(message.destination_id, message.destination_address, generation)
        generation.owner.migrate(spec, now_s)

    # From engine hosts (`HostListener`).

    def receive(self, instance_id: str, request_id: str, message: messages.ToOwner) -> None:
        """Take a message about a request from the host of an instance."""
        generation = self.generations.get(request_id)
        if generation is not None:
            generation.owner.receive(instance_id, message, self._link.now_s())
            self._carry_out_outputs(generation)
        elif isinstance(message, messages.Tokens | messages.StreamReady):
            stop = messages.StopStream(message.request_id, message.epoch)
            self._connections.send(self._users.address(instance_id), instance_id, stop)

    def lose_instance(self, instance_id: str) -> None:
        """Interrupt the requests of an instance that has stopped or crashed."""
        for request_id in self._users.remove_instance(instance_id):
            generation = self.generations.get(request_id)
            if generation is None:
                continue
            if generation.owner.instance_id == instance_id:
                _LOG.warning(
                    "request interrupted at output token %d: its instance is lost",
                    len(generation.owner.output),
                    extra={"request": request_id, "instance": instance_id},
                )
            generation.owner.lose_instance(instance_id, self._link.now_s())
            self._carry_out_outputs(generation)

    # Outputs and timers of the owners.

    def _use(self, instance_id: str, address: str, generation: PendingGeneration) -> None:
        self._users.add(instance_id, address, generation.request.request_id)
        generation.instances.add(instance_id)

    def _carry_out_outputs(self, generation: PendingGeneration) -> None:
        """Carry out the owner's outputs; then forget the generation, or set its timer."""
        for output in generation.owner.take_outputs():
            match output:
                case SendToHost(instance_id, message):
                    address = self._users.address(instance_id)
                    self._connections.send(address, instance_id, message)
                case DeliverTokens(_, tokens, finish, logprobs):
                    generation.progress_at_s = self._link.now_s()
                    generation.restarted = False
                    self._chooser.end_prefill(generation.request.request_id, self._link.now_s())
                    generation.deliver(Generated(tokens, finish, logprobs))
                case ReportEvent(event, num_recomputed):
                    self.recomputed_tokens += num_recomputed
                    self._report(generation, event)
                case _:
                    assert_never(output)
        if generation.ended and generation.owner.settled:
            generation.cancel_timer()
            self._forget(generation)
        else:
            self._set_timer(generation)

    def _set_timer(self, generation: PendingGeneration) -> None:
        """Set the timer to the owner's next wake-up, or to the end of the silence without one."""
        at_s = generation.owner.next_wakeup_s
        if at_s is None:
            at_s = generation.progress_at_s + self._limits.start_s
        generation.set_timer(at_s, self._link.now_s(), self._wake_up)

    def _report(self, generation: PendingGeneration, event: ReportedEvent) -> None:
        _log_event(event)
        if isinstance(event, InferenceFailed):
            generation.fail(FailedError(event.reason))
        elif isinstance(event, InferenceFinished) and not generation.ended:
            raise ControlError(
                f"request {event.request_id} finished before its client had the last token"
            )
        elif isinstance(event, MigrationFinished | MigrationFailed):
            self._chooser.end_migration(event)
        self._link.report(event)
        for listener in self.event_listeners:
            listener(event)

    def _forget(self, generation: PendingGeneration) -> None:
        request_id = generation.request.request_id
        self.generations.pop(request_id, None)
        self._chooser.forget(request_id)
        self._users.remove_request(request_id, generation.instances)
        generation.instances.clear()

    def _wake_up(self, generation: PendingGeneration) -> None:
        now_s = self._link.now_s()
        generation.owner.advance(now_s)
        if not generation.ended:
            self._end_silence(generation, now_s)
        self._carry_out_outputs(generation)

    def _end_silence(self, generation: PendingGeneration, now_s: float) -> None:
        """Restart a generation that makes no progress; end one that was restarted before."""
        instance_id, limits = generation.owner.instance_id, self._limits
        silent_s = now_s - generation.progress_at_s
        ids = {"request": generation.request.request_id, "model": generation.request.model}
        if instance_id is None:
            if silent_s >= limits.start_s:
                reason = f"the request was not started within {limits.start_s:g} s"
                _LOG.warning("%s, and its leader has not ended it", reason, extra=ids)
                generation.fail(TimedOutError(reason))
                self._cancelled(generation)
        elif silent_s >= limits.engine_s:
            reason = f"instance {instance_id} has sent nothing for {limits.engine_s:g} s"
            _LOG.warning("%s", reason, extra={**ids, "instance": instance_id})
            if generation.restarted:
                generation.owner.fail(reason, now_s)
                return
            generation.owner.abandon(now_s)
            self._carry_out_outputs(generation)
            generation.cancel_timer()
            self._forget(generation)
            generation.restarted = True
            self._submit_again(generation)


def _error(message: RejectRequest) -> ClusterError:
    if message.timed_out:
        return TimedOutError(message.reason)
    return FailedError(message.reason) if message.load_failed else RejectedError(message.reason)


def _log_event(event: ReportedEvent) -> None:
    match event:
        case InferenceFailed(request_id, instance_id, reason):
            ids = {"request": request_id, "instance": instance_id}
            _LOG.warning("generation failed: %s", reason, extra=ids)
        case MigrationFailed(move_id, request_id, instance_id, reason):
            ids = {"request": request_id, "move": move_id, "instance": instance_id}
            _LOG.warning("migration failed: %s", reason, extra=ids)
        case MigrationFinished():
            _LOG.info(
                "migration from instance %s to %s finished: %d tokens, pause %.1f ms, "
                "ready after %.3f s",
                event.source_id,
                event.destination_id,
                event.num_tokens,
                1e3 * event.pause_s,
                event.resume_s,
                extra={"request": event.request_id, "move": event.move_id},
            )
        case _:
            pass
