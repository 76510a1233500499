"""What a leader and its peers say to each other. Peers are workers and gateways.

Each direction is a numbered log. *Orders* carry the ids of the controller's commands, and a peer
executes them in that order, each once: it remembers the last id. *Reports* are events for the
controller, numbered by the peer, which keeps them until the leader has them in its journal. After
a lost connection or a change of leader both sides resend what the other has not got, so that each
order is executed once and each report heard once, whoever dies in between. What need not be sent
again is told with the heartbeats. A peer that was declared lost is `Reset`: it drops everything and
comes back as another incarnation.
"""

from typing import Literal

import msgspec

from sllmcore.events import (
    InferenceFailed,
    InferenceFinished,
    InferenceStopped,
    InstanceLost,
    LoadFailed,
    LoadFinished,
    MigrationFailed,
    MigrationFinished,
    RequestArrived,
    RequestCancelled,
    ServerDraining,
)
from sllmcore.types import Residency, ServerSpec, StorageTier
from sllmreal.control.deployment import ModelDeployment

VERSION = 3

ReportedEvent = (
    LoadFinished
    | LoadFailed
    | InstanceLost
    | ServerDraining
    | RequestArrived
    | RequestCancelled
    | InferenceFinished
    | InferenceFailed
    | InferenceStopped
    | MigrationFinished
    | MigrationFailed
)


class _Message(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    pass


# A peer's first message, and the answers to it.


class WorkerOffer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a worker brings: its server, what its tiers hold, where its data plane listens."""

    server: ServerSpec
    resident: tuple[Residency, ...]
    address: str


class Hello(_Message, frozen=True):
    """`last_order` is the id of the last order executed, 0 for none, `last_heard` the number of the
    last report known to be heard, 0 for none; gateways offer nothing."""

    version: int
    kind: Literal["worker", "gateway"]
    peer_id: str
    incarnation: str
    last_order: int
    last_heard: int
    offer: WorkerOffer | None = None

    @property
    def fresh(self) -> bool:
        """No leader has had anything to do with this incarnation, or none need remember it."""
        return self.last_order == 0 and self.last_heard == 0


class Welcome(_Message, frozen=True):
    """Reports up to `last_report` have been heard. Leaders with a lower `term` are deposed.

    The cluster's time is the wall clock's less `zero_at_s`.
    """

    term: int
    last_report: int
    zero_at_s: float


class Reset(_Message, frozen=True):
    """This incarnation counts as lost. Drop all and say Hello with another."""

    reason: str


# From a peer.


class EventReport(_Message, frozen=True):
    """The `number`-th event that this incarnation reports; `kind` is the event's class."""

    number: int
    kind: str
    event: msgspec.Raw


class OrdersExecuted(_Message, frozen=True):
    """All orders up to `last_order` have been taken over: forget them. Said with each heartbeat."""

    last_order: int


# From the leader.


class ReportsLogged(_Message, frozen=True):
    """Reports up to `last_report` are in the journal: forget them. Said with each heartbeat."""

    last_report: int


class DeployedModels(_Message, frozen=True):
    """All models that are deployed. To gateways, at the start and at every change."""

    models: tuple[ModelDeployment, ...]


class WorkerAddresses(_Message, frozen=True):
    """The data planes of all workers that are not lost: what ran elsewhere is gone. To gateways,
    at the start and at every change."""

    addresses: tuple[str, ...]


# Upper bounds of the buckets of durations; a count of longer ones follows.
BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0, 120.0, 300.0)


class PhaseTimes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Counts by `BUCKETS_S`, and the sum, of the durations of a phase of cold starts from `tier`."""

    tier: str
    phase: str
    counts: tuple[int, ...]
    total_s: float


class LoadStats(_Message, frozen=True):
    """All loads since the cluster began, with the bytes by tier. To gateways, with each
    heartbeat."""

    phases: tuple[PhaseTimes, ...]
    num_bytes: dict[str, int]


# From an operator's command, instead of Hello; each is answered by one Answer.


class DeployModel(_Message, frozen=True):
    """Serve a model from now on."""

    model: ModelDeployment


class DeleteModel(_Message, frozen=True):
    """Take no more requests for a model."""

    name: str


class GetStatus(_Message, frozen=True):
    """Ask for the Status."""


class OperatorDone(_Message, frozen=True):
    """It is done, and durable."""


class OperatorRefused(_Message, frozen=True):
    """It is not done, because."""

    reason: str


class ServerStatus(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A server as the controller believes it to be. `connected`: its worker is, just now."""

    id: str
    num_gpus: int
    num_free: int
    connected: bool
    draining: bool
    dram_used_bytes: int
    ssd_used_bytes: int


class InstanceStatus(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An instance as the controller believes it to be."""

    id: str
    model: str
    server_id: str
    gpu_indices: tuple[int, ...]
    ready: bool
    num_requests: int


class ClusterStatus(_Message, frozen=True):
    """The cluster as its controller sees it. `num_log_keys`: what its log takes in the store."""

    term: int
    now_s: float
    num_waiting: int
    num_events: int
    num_log_keys: int
    models: tuple[ModelDeployment, ...]
    servers: tuple[ServerStatus, ...]
    instances: tuple[InstanceStatus, ...]


# Orders to a worker.


class LaunchInstance(_Message, frozen=True):
    """As the core's `Load`."""

    id: int
    instance_id: str
    model: ModelDeployment
    gpu_indices: tuple[int, ...]
    cache_in: tuple[StorageTier, ...]
    after: str | None


class StopInstance(_Message, frozen=True):
    """As `Unload`. `loaded`: the controller had heard that the load finished."""

    id: int
    instance_id: str
    loaded: bool


class EvictCopy(_Message, frozen=True):
    """As `Evict`."""

    id: int
    tier: StorageTier
    model: str
    keep_bytes: int


# Orders to a gateway. Addresses are those of the workers' data planes.


class StartRequest(_Message, frozen=True):
    """As `Infer`."""

    id: int
    request_id: str
    instance_id: str
    address: str
    attempt: int


class StopRequest(_Message, frozen=True):
    """As `Stop`."""

    id: int
    request_id: str
    instance_id: str


class StartMigration(_Message, frozen=True):
    """As `Resume`."""

    id: int
    move_id: str
    request_id: str
    source_id: str
    source_address: str
    destination_id: str
    destination_address: str


class AbortMigration(_Message, frozen=True):
    """As `AbortResume`."""

    id: int
    move_id: str
    request_id: str
    destination_id: str


class RejectRequest(_Message, frozen=True):
    """As `Reject`, and `TimeOut` with `timed_out`."""

    id: int
    request_id: str
    reason: str
    timed_out: bool = False


WorkerOrder = LaunchInstance | StopInstance | EvictCopy
GatewayOrder = StartRequest | StopRequest | StartMigration | AbortMigration | RejectRequest
Order = WorkerOrder | GatewayOrder
OperatorRequest = DeployModel | DeleteModel | GetStatus
OperatorAnswer = OperatorDone | OperatorRefused | ClusterStatus
FromPeer = Hello | EventReport | OrdersExecuted | OperatorRequest
FromLeader = (
    Welcome
    | Reset
    | ReportsLogged
    | DeployedModels
    | WorkerAddresses
    | LoadStats
    | Order
    | OperatorAnswer
)

_EVENTS: dict[str, type[ReportedEvent]] = {kind.__name__: kind for kind in ReportedEvent.__args__}


def report(number: int, event: ReportedEvent) -> EventReport:
    """An event as a message."""
    return EventReport(number, type(event).__name__, msgspec.Raw(msgspec.msgpack.encode(event)))


def reported_event(message: EventReport) -> ReportedEvent:
    """The event of a message. Raises msgspec.ValidationError when it is none."""
    kind = _EVENTS.get(message.kind)
    if kind is None:
        raise msgspec.ValidationError(f"{message.kind[:50]!r} is not an event that peers report")
    return msgspec.msgpack.decode(message.event, type=kind)
