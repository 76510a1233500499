"""A server as the controller believes it to be."""

from collections.abc import Iterator
from itertools import islice

from sllmcore.cluster.instance import Instance
from sllmcore.cluster.load_queue import LoadQueue
from sllmcore.cluster.tier_cache import TierCache
from sllmcore.types import DRAM, REMOTE, SSD, Checkpoint, ServerSpec, StorageTier


class Server:
    """GPUs with their occupants, cache tiers, and a load queue per I/O path.

    A GPU's *occupant* is the instance on it; the *next occupant* gets the GPU when the occupant
    has left.
    `num_free` counts GPUs without either, `num_idle` those whose occupant is idle and could go.
    """

    __slots__ = (
        "caches",
        "draining",
        "helped",
        "id",
        "idle",
        "instances",
        "join_index",
        "next_occupants",
        "num_free",
        "num_idle",
        "occupants",
        "queues",
        "reclaims_idle",
        "spec",
    )

    def __init__(
        self, spec: ServerSpec, join_index: int, *, sequential_loading: bool, reclaims_idle: bool
    ) -> None:
        self.id = spec.id
        self.spec = spec
        self.join_index = join_index
        self.reclaims_idle = reclaims_idle
        self.draining = False
        self.occupants: list[Instance | None] = [None] * spec.num_gpus
        self.next_occupants: list[Instance | None] = [None] * spec.num_gpus
        self.num_free = spec.num_gpus
        self.num_idle = 0
        self.instances: dict[str, Instance] = {}
        self.helped: dict[str, Instance] = {}  # elsewhere: it fetches or fetched a part for them
        self.idle: dict[str, Instance] = {}  # least recently used first
        self.caches = {
            DRAM: TierCache(spec.dram_bytes),
            SSD: TierCache(spec.ssd_bytes),
        }
        self.queues = {tier: LoadQueue(sequential_loading) for tier in (REMOTE, SSD, DRAM)}

    @property
    def num_available(self) -> int:
        """GPUs that a new instance could have at once, idle instances making room if they may."""
        if self.draining:
            return 0
        return self.num_free + self.num_idle if self.reclaims_idle else self.num_free

    def could_hold(self, checkpoint: Checkpoint) -> bool:
        """Whether an instance fits an empty server: enough GPUs, enough memory in each."""
        enough = checkpoint.size_bytes <= checkpoint.num_gpus * self.spec.gpu_memory_bytes
        return enough and checkpoint.num_gpus <= self.spec.num_gpus

    def free_gpus(self) -> Iterator[int]:
        for index, occupant in enumerate(self.occupants):
            if occupant is None and self.next_occupants[index] is None:
                yield index

    def pick_gpus(self, num_gpus: int) -> tuple[int, ...] | None:
        """GPUs for a new instance: free ones first, then those of the longest idle instances."""
        if self.num_available < num_gpus:
            return None
        picked = list(islice(self.free_gpus(), num_gpus))
        for instance in self.idle.values():
            if len(picked) >= num_gpus:
                break
            picked.extend(instance.gpu_indices[: num_gpus - len(picked)])
        return tuple(picked)

    def resident_bytes(self, tier: StorageTier, model: str) -> int:
        """Bytes of `model` in a cache tier."""
        return self.caches[tier].resident_bytes(model)

    def queue_wait_s(self, tier: StorageTier, now_s: float) -> float:
        """How long a load from `tier` would wait for the loads already on that path."""
        return self.queues[tier].wait_s(now_s)
