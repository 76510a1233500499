"""Messages between the leader and its peers, which are workers and gateways.

Each direction is a numbered log. An *order* is the message of a command and has its id; a peer
executes orders by ascending id, each once, and remembers the last id. A *report* is an event for
the controller, numbered by the peer, which keeps it until the leader has it in its log. After a
lost connection or a change of leader, both sides send again what the other has not acknowledged. So
each order is executed once and each report handled once, across crashes. Acknowledgements and
statistics are sent with each heartbeat. A peer that was marked lost gets a `Reset`: it drops
everything and comes back as a new incarnation.
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

VERSION = 5

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


# The first message of a peer, and the answers to it.


class WorkerOffer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A worker's server, the content of its tiers, and the address of its data plane."""

    server: ServerSpec
    resident: tuple[Residency, ...]
    address: str


class Hello(_Message, frozen=True):
    """The first message of a peer.

    Attributes:
        version: `VERSION` of the peer.
        kind: The kind of the peer.
        peer_id: The peer's name; a worker's is its server's id.
        incarnation: Random name of this life of the peer's process.
        last_order: Id of the last order that was executed; 0: none.
        last_logged: Number of the last report that a leader has acknowledged; 0: none.
        offer: A worker's server; None for a gateway.
    """

    version: int
    kind: Literal["worker", "gateway"]
    peer_id: str
    incarnation: str
    last_order: int
    last_logged: int
    offer: WorkerOffer | None = None

    @property
    def fresh(self) -> bool:
        """True if no leader has sent an order to this incarnation or logged a report of it."""
        return self.last_order == 0 and self.last_logged == 0


class Welcome(_Message, frozen=True):
    """The answer to a `Hello` that was accepted.

    Attributes:
        term: The leader's term; leaders of lower terms are deposed.
        last_report: Number of the last report that is in the log.
        zero_at_s: Unix time at the cluster's time 0.
    """

    term: int
    last_report: int
    zero_at_s: float


class Reset(_Message, frozen=True):
    """The answer to a `Hello` of an incarnation that is lost or unknown.

    The peer drops everything and sends `Hello` with a new incarnation.
    """

    reason: str


# Messages of a peer.


class EventReport(_Message, frozen=True):
    """The `number`-th event of this incarnation, counted from 1; `kind` is the event's class."""

    number: int
    kind: str
    event: msgspec.Raw


class OrdersExecuted(_Message, frozen=True):
    """A peer's heartbeat: it has executed all orders up to `last_order`, which may be dropped."""

    last_order: int


# Messages of the leader.


class ReportsLogged(_Message, frozen=True):
    """The leader's heartbeat: reports up to `last_report` are in its log and may be dropped."""

    last_report: int


class DeployedModels(_Message, frozen=True):
    """All models that are deployed. Sent to each peer after `Welcome` and at every change.

    `unservable`: by name, the reasons why no server can run a model.
    """

    models: tuple[ModelDeployment, ...]
    unservable: dict[str, str] = {}


class WorkerAddresses(_Message, frozen=True):
    """The data planes of all workers that are not lost; instances of other workers are gone.

    Sent to gateways after `Welcome` and at every change.
    """

    addresses: tuple[str, ...]


class PhaseTimes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Durations of a phase of the cold starts from `tier`: counts by `BUCKETS_S`, and the sum."""

    tier: str
    phase: str
    counts: tuple[int, ...]
    total_s: float


class LoadStats(_Message, frozen=True):
    """All loads since the cluster began. Sent to gateways at each heartbeat.

    Attributes:
        phases: Durations of the loads that succeeded.
        num_bytes: Bytes loaded, by tier.
        num_failed: Loads that failed, by model.
    """

    phases: tuple[PhaseTimes, ...]
    num_bytes: dict[str, int]
    num_failed: dict[str, int] = {}


# Messages of an operator, instead of Hello. The leader answers each with an OperatorAnswer.


class DeployModel(_Message, frozen=True):
    """Deploy a model."""

    model: ModelDeployment


class DeleteModel(_Message, frozen=True):
    """Delete a model: it takes no more requests."""

    name: str


class GetStatus(_Message, frozen=True):
    """Get the cluster's status; the answer is a `ClusterStatus`."""


class OperatorDone(_Message, frozen=True):
    """The request was carried out and is durable."""


class OperatorRefused(_Message, frozen=True):
    """The request was not carried out."""

    reason: str


class ServerStatus(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A server in the controller's view. `connected`: its worker has a connection now."""

    id: str
    num_gpus: int
    num_free: int
    connected: bool
    draining: bool
    dram_used_bytes: int
    ssd_used_bytes: int


class InstanceStatus(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An instance in the controller's view."""

    id: str
    model: str
    server_id: str
    gpu_indices: tuple[int, ...]
    ready: bool
    num_requests: int


class ProblemStatus(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A recent problem: the cluster's time, the request, instance or server, and the reason."""

    at_s: float
    subject: str
    reason: str


class ClusterStatus(_Message, frozen=True):
    """The cluster in the controller's view. `num_log_keys`: keys of the log in the store.

    `problems` are the last ones, oldest first.
    """

    term: int
    now_s: float
    num_waiting: int
    num_events: int
    num_log_keys: int
    models: tuple[ModelDeployment, ...]
    servers: tuple[ServerStatus, ...]
    instances: tuple[InstanceStatus, ...]
    problems: tuple[ProblemStatus, ...] = ()


# Orders to a worker. `id` is the command's.


class LaunchInstance(_Message, frozen=True):
    """The command of the same name."""

    id: int
    instance_id: str
    model: ModelDeployment
    gpu_indices: tuple[int, ...]
    cache_in: tuple[StorageTier, ...]
    after: str | None


class StopInstance(_Message, frozen=True):
    """The command of the same name. `loaded`: the controller has handled its `LoadFinished`."""

    id: int
    instance_id: str
    loaded: bool


class EvictCopy(_Message, frozen=True):
    """The command of the same name."""

    id: int
    tier: StorageTier
    model: str
    keep_bytes: int


# Orders to a gateway. Addresses are those of the workers' data planes; empty: unknown.


class StartRequest(_Message, frozen=True):
    """The command of the same name."""

    id: int
    request_id: str
    instance_id: str
    address: str
    attempt: int


class StopRequest(_Message, frozen=True):
    """The command of the same name."""

    id: int
    request_id: str
    instance_id: str


class StartMigration(_Message, frozen=True):
    """The command of the same name."""

    id: int
    move_id: str
    request_id: str
    source_id: str
    source_address: str
    destination_id: str
    destination_address: str


class AbortMigration(_Message, frozen=True):
    """The command of the same name."""

    id: int
    move_id: str
    request_id: str
    destination_id: str


class RejectRequest(_Message, frozen=True):
    """The command of the same name, or with `timed_out` a `TimeOutRequest`.

    `load_failed`: the loads of its model failed, so a retry would not help.
    """

    id: int
    request_id: str
    reason: str
    timed_out: bool = False
    load_failed: bool = False


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
    """Return an event as a message."""
    return EventReport(number, type(event).__name__, msgspec.Raw(msgspec.msgpack.encode(event)))


def reported_event(message: EventReport) -> ReportedEvent:
    """Return the event of a message. Raises msgspec.DecodeError if the message is malformed."""
    kind = _EVENTS.get(message.kind)
    if kind is None:
        raise msgspec.ValidationError(f"{message.kind[:50]!r} is not an event that peers report")
    return msgspec.msgpack.decode(message.event, type=kind)
