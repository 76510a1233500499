"""What a controller asks for. Commands are primitive, numbered, and carried out in their order.

A driver's part of the contract: commands to one server take effect in the order of their ids, so
that a `LaunchInstance` onto GPUs follows the `StopInstance` that clears them. Ids never repeat, so
that a command delivered twice can be recognised.
"""

from dataclasses import dataclass, field

from sllmcore.types import UNWRITTEN_DEFAULT, LoadEstimate, StorageTier


@dataclass(frozen=True, slots=True)
class LaunchInstance:
    """Bring up an instance: its weights go from the nearest tier that holds them to these GPUs.

    The bytes are kept in the tiers `cache_in` on their way. The transfer takes its turn `after`
    that of another instance on the same I/O path (or as soon as that one is gone); whatever
    else a cold start needs need not wait.

    With `helpers` the checkpoint comes from remote storage in equal parts, each over the network of
    one server: of this one, and of the helpers, in whose GPU memory it lies beside what is there.
    The load has finished when all parts are in, for then they serve as a pipeline; the rest follows
    to these GPUs by itself, and until it is in, losing a helper is losing the instance. A split
    load leaves nothing in the tiers. A driver that cannot split loads the whole.
    """

    id: int
    instance_id: str
    model: str
    server_id: str
    gpu_indices: tuple[int, ...]
    estimate: LoadEstimate
    cache_in: tuple[StorageTier, ...]
    after: str | None
    helpers: tuple[str, ...] = field(default=(), metadata=UNWRITTEN_DEFAULT)


@dataclass(frozen=True, slots=True)
class StopInstance:
    """Free the GPUs of an instance that runs nothing; a load still under way is broken off."""

    id: int
    instance_id: str


@dataclass(frozen=True, slots=True)
class EvictCopy:
    """Drop a model from a cache tier, all but its first `keep_bytes`."""

    id: int
    server_id: str
    tier: StorageTier
    model: str
    keep_bytes: int


@dataclass(frozen=True, slots=True)
class StartRequest:
    """Run a request on a ready instance, from its beginning (`attempt` 1) or what is left of it."""

    id: int
    request_id: str
    instance_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class StopRequest:
    """Break off an inference, for a preemption or because its client left."""

    id: int
    request_id: str
    instance_id: str


@dataclass(frozen=True, slots=True)
class StartMigration:
    """Migrate: send the tokens, recompute them at the destination while the source goes on,
    repeat for those generated meanwhile, and switch the stream over."""

    id: int
    move_id: str
    request_id: str
    source_id: str
    destination_id: str
    expected_s: float


@dataclass(frozen=True, slots=True)
class AbortMigration:
    """The migration is not wanted any more: clear what the destination has resumed."""

    id: int
    move_id: str
    request_id: str
    destination_id: str


@dataclass(frozen=True, slots=True)
class RejectRequest:
    """Tell the client that its request will not run."""

    id: int
    request_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class TimeOutRequest:
    """Tell the client that its request could not be started in time."""

    id: int
    request_id: str


Command = (
    LaunchInstance
    | StartRequest
    | StopInstance
    | EvictCopy
    | StopRequest
    | StartMigration
    | AbortMigration
    | RejectRequest
    | TimeOutRequest
)
