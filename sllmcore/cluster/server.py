"""The state of a server as the controller knows it."""

from collections.abc import Iterator
from itertools import islice

from sllmcore.cluster.instance import Instance
from sllmcore.cluster.load_queue import LoadQueue
from sllmcore.cluster.tier_cache import TierCache
from sllmcore.types import DRAM, REMOTE, SSD, Checkpoint, ServerSpec, StorageTier


class Server:
    """GPUs with their occupants, cache tiers, and a load queue per I/O path.

    A GPU's *occupant* is the instance on it; the *next occupant* gets the GPU when the occupant has
    left. `num_free` counts the GPUs without either, `num_idle` those with an idle occupant.
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
        self.helped: dict[str, Instance] = {}  # on other servers: this one fetched a part for them
        self.idle: dict[str, Instance] = {}  # idle instances by id, longest idle first
        self.caches = {
            DRAM: TierCache(spec.dram_bytes),
            SSD: TierCache(spec.ssd_bytes),
        }
        self.queues = {tier: LoadQueue(sequential_loading) for tier in (REMOTE, SSD, DRAM)}

    @property
    def num_available(self) -> int:
        """Number of GPUs that a new instance can get at once: free and reclaimable idle ones."""
        if self.draining:
            return 0
        return self.num_free + self.num_idle if self.reclaims_idle else self.num_free

    def could_hold(self, checkpoint: Checkpoint) -> bool:
        """Return True if an instance fits the empty server: enough GPUs with enough memory."""
        enough = checkpoint.size_bytes <= checkpoint.num_gpus * self.spec.gpu_memory_bytes
        return enough and checkpoint.num_gpus <= self.spec.num_gpus

    def free_gpus(self) -> Iterator[int]:
        """Yield the indices of the free GPUs."""
        for index, occupant in enumerate(self.occupants):
            if occupant is None and self.next_occupants[index] is None:
                yield index

    def pick_gpus(self, num_gpus: int) -> tuple[int, ...] | None:
        """Return GPUs for a new instance: free ones, then those of the longest idle instances.

        None if fewer than `num_gpus` are available.
        """
        if self.num_available < num_gpus:
            return None
        picked = list(islice(self.free_gpus(), num_gpus))
        for instance in self.idle.values():
            if len(picked) >= num_gpus:
                break
            picked.extend(instance.gpu_indices[: num_gpus - len(picked)])
        return tuple(picked)

    def resident_bytes(self, tier: StorageTier, model: str) -> int:
        """Return the number of bytes of `model` in a cache tier."""
        return self.caches[tier].resident_bytes(model)

    def queue_wait_s(self, tier: StorageTier, now_s: float) -> float:
        """Return the time that a new load from `tier` would wait for the loads before it."""
        return self.queues[tier].wait_s(now_s)
