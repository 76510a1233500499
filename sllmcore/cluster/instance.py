"""An instance: one loaded model on some GPUs of one server, with slots for requests.

Transitions of `InstanceState`:

    from       to        event or command
    -          LOADING   a launch on free or idle GPUs: LaunchInstance
    -          RESERVED  a launch on GPUs that other instances must leave first (`waits_for`)
    RESERVED   LOADING   the last of those instances was removed: LaunchInstance
    LOADING    READY     LoadFinished
    RESERVED   removed   ServerLost or ServerDraining; MigrationFailed or the loss of a destination,
                         because its GPUs will not become free; when it has no request left
    LOADING    removed   LoadFailed, InstanceLost or ServerLost; StopInstance when it has no request
                         and no incoming migration left, or is prewarmed and its GPUs are needed
    READY      removed   InstanceLost or ServerLost; StopInstance when it has no request and is
                         leaving, its keep-alive ended, or its GPUs are needed

An instance is *leaving* while its requests migrate away or are stopped, and for good once it is
*retired*. It is *idle* while it has no requests and is ready or prewarmed.
"""

from enum import Enum


class InstanceState(Enum):
    """The phases of an instance; see the module."""

    RESERVED = "reserved"  # next occupant of its GPUs; the occupants must leave first
    LOADING = "loading"
    READY = "ready"


# In Python 3.11, `InstanceState.READY` costs as much as a function call; these names do not.
RESERVED, LOADING, READY = InstanceState


class Instance:
    """The state of one instance. Only `ClusterState` and the controller write to it."""

    __slots__ = (
        "gpu_indices",
        "helpers",
        "id",
        "idle_since_s",
        "incoming",
        "leaving",
        "load_s",
        "model",
        "num_slots",
        "ready_at_s",
        "requests",
        "retired",
        "server_id",
        "state",
        "waits_for",
    )

    def __init__(
        self, instance_id: str, model: str, server_id: str, gpu_indices: tuple[int, ...], slots: int
    ) -> None:
        self.id = instance_id
        self.model = model
        self.server_id = server_id
        self.gpu_indices = gpu_indices
        self.num_slots = slots
        self.state = InstanceState.RESERVED
        self.requests: dict[str, None] = {}  # bound or running requests by id, in that order
        self.incoming: dict[str, None] = {}  # migrations to this instance by id; each holds a slot
        self.waits_for: dict[str, None] = {}  # ids of the instances that must leave its GPUs first
        self.leaving = False  # takes no new requests; its present ones migrate away or are stopped
        self.retired = False  # its server drains or its model was deleted: `leaving` is final
        self.idle_since_s: float | None = None  # None: not idle
        self.helpers: tuple[str, ...] = ()  # ids of the servers that fetch a part of a split load
        self.ready_at_s = 0.0  # end of the load: expected while it loads, then actual
        self.load_s = 0.0  # duration of the cold start, set at its end

    @property
    def num_gpus(self) -> int:
        return len(self.gpu_indices)

    @property
    def free_slots(self) -> int:
        """Number of requests that can still be bound; 0 while the instance is leaving."""
        if self.leaving:
            return 0
        return self.num_slots - len(self.requests) - len(self.incoming)

    @property
    def idle(self) -> bool:
        """True if the instance has no requests and its GPUs may be reclaimed."""
        return self.idle_since_s is not None

    @property
    def ready(self) -> bool:
        """True if the load has finished."""
        return self.state is READY
