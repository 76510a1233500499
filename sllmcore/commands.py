"""Commands: what a controller asks its driver to do.

The driver carries out the commands to one server in the order of their ids, so that a
`LaunchInstance` onto GPUs follows the `StopInstance` that clears them. Ids never repeat, so that a
driver recognises a command that it receives twice.
"""

from dataclasses import dataclass, field

from sllmcore.types import UNWRITTEN_DEFAULT, LoadEstimate, StorageTier


@dataclass(frozen=True, slots=True)
class LaunchInstance:
    """Launch an instance: load its weights from the nearest tier that holds them onto these GPUs.

    The tiers `cache_in` keep a copy of the bytes. The transfer begins when the transfer of the
    instance `after` has finished or was cancelled; both use the same I/O path. The other phases of
    the cold start need not wait.

    With `helpers` the load is split: this server and each helper fetch an equal part from remote
    storage, and a helper keeps its part in GPU memory beside the instances that are there. The load
    has finished when all parts have arrived, because they then serve as a pipeline. The driver goes
    on to move the helpers' parts to these GPUs; if a helper is lost before that ends, the instance
    is lost. A split load leaves no copy in the tiers. A driver that cannot split loads the whole
    checkpoint on this server.
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
    """Free the GPUs of an instance without requests. A load in progress is cancelled."""

    id: int
    instance_id: str


@dataclass(frozen=True, slots=True)
class EvictCopy:
    """Evict a model from a cache tier, except for its first `keep_bytes`."""

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
    """Stop a running request, because it is preempted or its client left."""

    id: int
    request_id: str
    instance_id: str


@dataclass(frozen=True, slots=True)
class StartMigration:
    """Migrate a running request to another instance of its model.

    The destination recomputes the context from its tokens while the source goes on generating.
    This is repeated for the tokens generated meanwhile. Then the stream switches to the
    destination. `expected_s` is the predicted duration.
    """

    id: int
    move_id: str
    request_id: str
    source_id: str
    destination_id: str
    expected_s: float


@dataclass(frozen=True, slots=True)
class AbortMigration:
    """Abort a migration: free what the destination holds for it."""

    id: int
    move_id: str
    request_id: str
    destination_id: str


@dataclass(frozen=True, slots=True)
class RejectRequest:
    """Report to the client that its request will not run."""

    id: int
    request_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class TimeOutRequest:
    """Report to the client that its request could not be started in time."""

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
