"""The vocabulary: what a cluster is made of, and what a request asks of it.

Every value is frozen. Units are in the names: seconds (`_s`), bytes (`_bytes`), bytes per second
(`_bytes_per_s`), tokens (`_tokens`). Instants (`now_s`, `..._at_s`) share the driver's one clock.
"""

from dataclasses import dataclass
from enum import IntEnum

from sllmcore.errors import UsageError


class StorageTier(IntEnum):
    """Where a checkpoint's bytes rest; a larger tier is nearer to the GPU."""

    REMOTE = 0
    SSD = 1
    DRAM = 2
    GPU = 3


# Metadata of a field that a journal leaves out while it has its default, so that a journal without
# it has the same bytes as one from before the field was added.
UNWRITTEN_DEFAULT = {"journal": "unless default"}

# Looked up on the class, a member costs Python 3.11 as much as a call.
REMOTE, SSD, DRAM, GPU = StorageTier
CACHE_TIERS = (StorageTier.DRAM, StorageTier.SSD)  # what a server keeps of its own, nearest first


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model's weights as they lie in storage, and the GPUs that one instance of it takes."""

    model: str
    size_bytes: int
    num_gpus: int = 1

    def __post_init__(self) -> None:
        if self.size_bytes <= 0:
            raise UsageError(f"size_bytes must be positive, got {self.size_bytes} for {self.model}")
        if self.num_gpus <= 0:
            raise UsageError(f"num_gpus must be positive, got {self.num_gpus} for {self.model}")


@dataclass(frozen=True, slots=True)
class Request:
    """One inference request, as the user sent it. How long its answer gets, nobody knows yet."""

    id: str
    model: str
    arrived_at_s: float
    input_tokens: int
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """What a server has, as its worker declares it on joining.

    `load_bytes_per_s` is the bandwidth from each tier into the memory of one GPU, end to end: the
    slowest stage of that path. It is a first belief; the estimator learns from there.
    """

    id: str
    num_gpus: int
    gpu_memory_bytes: int  # of one GPU
    dram_bytes: int  # of the pinned pool that caches checkpoints
    ssd_bytes: int
    remote_bytes_per_s: float
    ssd_bytes_per_s: float
    dram_bytes_per_s: float  # into one GPU; an instance on n GPUs loads over n links

    def __post_init__(self) -> None:
        for name in ("num_gpus", "gpu_memory_bytes", "remote_bytes_per_s", "ssd_bytes_per_s"):
            if getattr(self, name) <= 0:
                raise UsageError(f"{name} of {self.id} must be positive: {getattr(self, name)}")
        if self.dram_bytes_per_s <= 0:
            raise UsageError(f"dram_bytes_per_s of {self.id} must be positive")
        if self.dram_bytes < 0 or self.ssd_bytes < 0:
            raise UsageError(f"the tiers of {self.id} cannot have a negative size")


@dataclass(frozen=True, slots=True)
class Residency:
    """`num_bytes` of `model` rest in one tier of a server; less than its size: partly resident."""

    tier: StorageTier
    model: str
    num_bytes: int


@dataclass(frozen=True, slots=True)
class LoadEstimate:
    """How long until `model` could run on a server, and why: queue, transfer, everything else."""

    source: StorageTier
    queue_s: float
    transfer_s: float
    startup_s: float  # phases of a cold start that move no bytes

    @property
    def total_s(self) -> float:
        return self.queue_s + self.transfer_s + self.startup_s


@dataclass(frozen=True, slots=True)
class Placement:
    """GPUs of one server, chosen for a model; `helpers` fetch a part each, see `commands.Load`."""

    server_id: str
    gpu_indices: tuple[int, ...]
    load: LoadEstimate
    helpers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MigrationPlan:
    """Move all inferences of one instance, so that its GPUs become free.

    The destination is either an `instance_id` that is ready and has the slots, or a `placement`
    where the model must be loaded first: exactly one of the two.
    """

    victim_id: str
    instance_id: str | None
    placement: Placement | None
    resume_s: float

    @property
    def total_s(self) -> float:
        load_s = self.placement.load.total_s if self.placement is not None else 0.0
        return load_s + self.resume_s
