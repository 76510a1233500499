"""What a controller is told. Each event is a fact: it has happened, at the driver's `now_s`.

A driver's part of the contract:
- every `Load` is answered by one `LoadFinished` or `LoadFailed`, unless an `Unload` overtakes it:
  a load whose `LoadFinished` the controller had not heard when it said `Unload` leaves nothing in
  the cache tiers, finished or not;
- every `Infer` is answered by one `InferenceFinished`, `InferenceFailed` or, after a `Stop`,
  `InferenceStopped`, from the instance that holds the request at that time;
- every `Resume` is answered by one `MigrationFinished` (the request now runs at the destination)
  or `MigrationFailed` (it does not, and the destination is clean again), unless the destination
  is lost; when the source ends or is lost first, that event comes before the `MigrationFailed`;
- a `Stop` that finds its request moved away is not answered: `MigrationFinished` says where to;
- losing an instance or a server answers everything else that was under way there.
An event about an instance or request that the controller has already let go is ignored, for
messages cross.
"""

from dataclasses import dataclass

from sllmcore.types import Checkpoint, Request, Residency, ServerSpec, StorageTier


@dataclass(frozen=True, slots=True)
class ModelDeployed:
    """Requests for this model may come; one instance serves `num_slots` of them at once."""

    checkpoint: Checkpoint
    num_slots: int = 1


@dataclass(frozen=True, slots=True)
class ModelDeleted:
    """No more requests for this model: those waiting are rejected, those running finish."""

    model: str


@dataclass(frozen=True, slots=True)
class ServerJoined:
    """A server offers itself, and says what its tiers already hold. Its GPUs are empty."""

    server: ServerSpec
    resident: tuple[Residency, ...] = ()


@dataclass(frozen=True, slots=True)
class ServerDraining:
    """A server is about to leave: nothing new starts there."""

    server_id: str


@dataclass(frozen=True, slots=True)
class ServerLost:
    """A server is gone, with all that ran there and all that its tiers held."""

    server_id: str


@dataclass(frozen=True, slots=True)
class RequestArrived:
    request: Request


@dataclass(frozen=True, slots=True)
class RequestCancelled:
    """The client has left; nobody waits for the answer."""

    request_id: str


@dataclass(frozen=True, slots=True)
class LoadFinished:
    """The instance can serve. `num_bytes` came from `source` (or tiers nearer) in `transfer_s`.

    `transfer_s` counts from the load's turn on its I/O path to the last byte; `startup_s` is the
    rest of the cold start, from the `Load` command on, that was neither that nor waiting for it.
    """

    instance_id: str
    source: StorageTier
    num_bytes: int
    transfer_s: float
    startup_s: float


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """The load ended without a usable instance; its GPUs and its cache space are clean."""

    instance_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class InstanceLost:
    """An engine crashed: the instance is gone, its server is not."""

    instance_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class InferenceFinished:
    request_id: str
    instance_id: str
    output_tokens: int
    first_token_at_s: float


@dataclass(frozen=True, slots=True)
class InferenceFailed:
    """The engine refused or broke off this one request; the instance lives on."""

    request_id: str
    instance_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class InferenceStopped:
    """The answer to `Stop`. `lost_tokens` had been generated and will have to be again."""

    request_id: str
    instance_id: str
    lost_tokens: int


@dataclass(frozen=True, slots=True)
class MigrationFinished:
    """The request's stream comes from the destination, of whose `num_tokens` of context the cache
    was recomputed there, or copied."""

    move_id: str
    request_id: str
    source_id: str
    destination_id: str
    num_tokens: int
    resume_s: float
    pause_s: float


@dataclass(frozen=True, slots=True)
class MigrationFailed:
    """The request did not move: its source finished or was stopped first, or the destination broke.

    Unless another event says otherwise, the source goes on generating.
    """

    move_id: str
    request_id: str
    destination_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class WakeUp:
    """The time that `Controller.next_wakeup_s` asked for has come."""


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
