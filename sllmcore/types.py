"""Values that describe a cluster, its models and its requests.

Every value is frozen. Units are in the names: seconds (`_s`), bytes (`_bytes`), bytes per second
(`_bytes_per_s`), tokens (`_tokens`). Instants (`now_s`, `..._at_s`) are times of the driver's
clock.
"""

from dataclasses import dataclass
from enum import IntEnum

from sllmcore.errors import UsageError


class StorageTier(IntEnum):
    """A level of storage. A larger value is nearer to the GPU."""

    REMOTE = 0
    SSD = 1
    DRAM = 2
    GPU = 3


# Metadata of a field that a journal omits while the field has its default value. So a field can be
# added without changing the bytes of journals that do not use it.
UNWRITTEN_DEFAULT = {"journal": "unless default"}

# In Python 3.11, `StorageTier.DRAM` costs as much as a function call; these names do not.
REMOTE, SSD, DRAM, GPU = StorageTier
CACHE_TIERS = (StorageTier.DRAM, StorageTier.SSD)  # tiers of a server, nearest first


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The weights of a model in storage, and the number of GPUs of one instance."""

    model: str
    size_bytes: int
    num_gpus: int = 1

    def __post_init__(self) -> None:
        if self.size_bytes <= 0:
            raise UsageError(f"size_bytes of {self.model} must be positive, got {self.size_bytes}")
        if self.num_gpus <= 0:
            raise UsageError(f"num_gpus of {self.model} must be positive, got {self.num_gpus}")


@dataclass(frozen=True, slots=True)
class Request:
    """An inference request as its client sent it. The length of the answer is unknown."""

    id: str
    model: str
    arrived_at_s: float
    input_tokens: int
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """The hardware of a server, as its worker declares it when it joins.

    The three bandwidths are initial estimates of the stages that a load passes: remote storage to
    server, SSD to DRAM, DRAM to one GPU. The loading-time estimator refines them.
    """

    id: str
    num_gpus: int
    gpu_memory_bytes: int  # of each GPU
    dram_bytes: int  # of the pinned pool that caches checkpoints
    ssd_bytes: int
    remote_bytes_per_s: float
    ssd_bytes_per_s: float
    dram_bytes_per_s: float  # to one GPU; an instance on n GPUs loads over n links

    def __post_init__(self) -> None:
        for name in ("num_gpus", "gpu_memory_bytes", "remote_bytes_per_s", "ssd_bytes_per_s"):
            if getattr(self, name) <= 0:
                raise UsageError(f"{name} of {self.id} must be positive, got {getattr(self, name)}")
        if self.dram_bytes_per_s <= 0:
            rate = self.dram_bytes_per_s
            raise UsageError(f"dram_bytes_per_s of {self.id} must be positive, got {rate}")
        if self.dram_bytes < 0 or self.ssd_bytes < 0:
            sizes = f"{self.dram_bytes} and {self.ssd_bytes}"
            raise UsageError(
                f"dram_bytes and ssd_bytes of {self.id} must not be negative, got {sizes}"
            )


@dataclass(frozen=True, slots=True)
class Residency:
    """Bytes of a model in one tier of a server. A partly resident model has fewer than its size."""

    tier: StorageTier
    model: str
    num_bytes: int


@dataclass(frozen=True, slots=True)
class LoadEstimate:
    """Expected time until a launched instance can serve: queue, transfer, remaining startup."""

    source: StorageTier
    queue_s: float
    transfer_s: float
    startup_s: float  # phases of a cold start that move no bytes

    @property
    def total_s(self) -> float:
        """The sum of the three times."""
        return self.queue_s + self.transfer_s + self.startup_s


@dataclass(frozen=True, slots=True)
class Placement:
    """The GPUs of one server for an instance; `helpers` as in `commands.LaunchInstance`."""

    server_id: str
    gpu_indices: tuple[int, ...]
    load: LoadEstimate
    helpers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MigrationPlan:
    """The migration of all requests of one instance, so that its GPUs become free.

    Exactly one destination is set: `instance_id`, a ready instance with enough free slots, or
    `placement`, where an instance must be launched first. `resume_s` is the expected time of the
    migration itself.
    """

    victim_id: str
    instance_id: str | None
    placement: Placement | None
    resume_s: float

    @property
    def total_s(self) -> float:
        """Expected time until the victim's GPUs are free: launch and migration."""
        load_s = self.placement.load.total_s if self.placement is not None else 0.0
        return load_s + self.resume_s
