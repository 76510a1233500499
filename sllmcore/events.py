"""Events: facts that a driver reports to a controller, at the driver's time `now_s`.

The driver's side of the contract:
- Every `LaunchInstance` is answered by one `LoadFinished` or `LoadFailed`, unless a `StopInstance`
  comes first. If the controller had not processed the `LoadFinished` when it issued the
  `StopInstance`, the load leaves nothing in the cache tiers, whether or not it had finished.
- Every `StartRequest` is answered by one `InferenceFinished`, `InferenceFailed` or, after a
  `StopRequest`, `InferenceStopped`, from the instance that runs the request at that time.
- Every `StartMigration` is answered by one `MigrationFinished` (the request now runs at the
  destination) or `MigrationFailed` (it does not, and the destination holds nothing of it), unless
  the destination is lost. If the source finishes or is lost first, that event precedes the
  `MigrationFailed`.
- A `StopRequest` that reaches an instance after its request migrated away is not answered. The
  `MigrationFinished` names the instance that now runs the request.
- The loss of an instance or a server answers every other command in progress there.
Events and commands may cross: the controller ignores an event about an instance or a request that
it has already given up.
"""

from dataclasses import dataclass

from sllmcore.types import Checkpoint, Request, Residency, ServerSpec, StorageTier


@dataclass(frozen=True, slots=True)
class ModelDeployed:
    """A model was deployed. One instance of it serves `num_slots` requests at once."""

    checkpoint: Checkpoint
    num_slots: int = 1


@dataclass(frozen=True, slots=True)
class ModelDeleted:
    """A model was deleted: its waiting requests are rejected, its running requests finish."""

    model: str


@dataclass(frozen=True, slots=True)
class ServerJoined:
    """A server joined. `resident` lists the models in its tiers; its GPUs are empty."""

    server: ServerSpec
    resident: tuple[Residency, ...] = ()


@dataclass(frozen=True, slots=True)
class ServerDraining:
    """A server is about to leave: no new instance or request starts there."""

    server_id: str


@dataclass(frozen=True, slots=True)
class ServerLost:
    """A server was lost, with its instances, their requests and the contents of its tiers."""

    server_id: str


@dataclass(frozen=True, slots=True)
class RequestArrived:
    """A client sent a request."""

    request: Request


@dataclass(frozen=True, slots=True)
class RequestCancelled:
    """The client of a request left: the answer is not needed any more."""

    request_id: str


@dataclass(frozen=True, slots=True)
class LoadFinished:
    """An instance can serve: `num_bytes` were loaded from `source` and tiers nearer to the GPUs.

    `transfer_s` is the time from the start of the transfer to its last byte. `startup_s` is the
    rest of the cold start since the `LaunchInstance`, without the wait for the I/O path.
    """

    instance_id: str
    source: StorageTier
    num_bytes: int
    transfer_s: float
    startup_s: float


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """A load ended without a usable instance. Its GPUs and its space in the tiers are free."""

    instance_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class InstanceLost:
    """An engine crashed: the instance is lost, its server is not."""

    instance_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class InferenceFinished:
    """A request completed. `first_token_at_s` is the time of its first output token."""

    request_id: str
    instance_id: str
    output_tokens: int
    first_token_at_s: float


@dataclass(frozen=True, slots=True)
class InferenceFailed:
    """An engine refused or aborted one request. Its instance goes on."""

    request_id: str
    instance_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class InferenceStopped:
    """A request stopped after a `StopRequest`. `lost_tokens` must be generated again."""

    request_id: str
    instance_id: str
    lost_tokens: int


@dataclass(frozen=True, slots=True)
class MigrationFinished:
    """A request now runs at the destination, which recomputed or copied its context.

    `num_tokens` is the length of that context, `resume_s` the duration of the migration, `pause_s`
    the time for which the output stream stood still.
    """

    move_id: str
    request_id: str
    source_id: str
    destination_id: str
    num_tokens: int
    resume_s: float
    pause_s: float


@dataclass(frozen=True, slots=True)
class MigrationFailed:
    """A migration failed: its source finished or was stopped first, or its destination failed.

    The source goes on generating, unless another event reports its end.
    """

    move_id: str
    request_id: str
    destination_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class WakeUp:
    """The time `Controller.next_wakeup_s` has come."""


Event = (
    RequestArrived
    | LoadFinished
    | InferenceFinished
    | MigrationFinished
    | MigrationFailed
    | InferenceStopped
    | RequestCancelled
    | WakeUp
    | LoadFailed
    | InferenceFailed
    | InstanceLost
    | ServerJoined
    | ServerDraining
    | ServerLost
    | ModelDeployed
    | ModelDeleted
)
