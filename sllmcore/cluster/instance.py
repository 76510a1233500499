"""An instance: one model on some GPUs of one server, with slots for requests."""

from enum import Enum


class InstanceState(Enum):
    RESERVED = "reserved"  # its GPUs are promised; others must leave them first
    LOADING = "loading"
    READY = "ready"


# Looked up on the class, a member costs Python 3.11 as much as a call.
RESERVED, LOADING, READY = InstanceState


class Instance:
    """Belief about one instance. Only `ClusterState` and the controller write to it."""

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
        self.requests: dict[str, None] = {}  # bound or running, in order
        self.incoming: dict[str, None] = {}  # the moves that hold a slot here
        self.waits_for: dict[str, None] = {}  # the instances that must leave its GPUs first
        self.leaving = False  # its inferences are being moved or stopped: nothing new may start
        self.retired = False  # its server drains or its model was deleted: it leaves in any case
        self.idle_since_s: float | None = None
        self.helpers: tuple[str, ...] = ()  # servers that fetch a part for it
        self.ready_at_s = 0.0  # as expected while it loads, as it was from then on
        self.load_s = 0.0  # what its cold start took, once it is over

    @property
    def num_gpus(self) -> int:
        return len(self.gpu_indices)

    @property
    def free_slots(self) -> int:
        if self.leaving:
            return 0
        return self.num_slots - len(self.requests) - len(self.incoming)

    @property
    def idle(self) -> bool:
        return self.idle_since_s is not None

    @property
    def ready(self) -> bool:
        return self.state is READY
