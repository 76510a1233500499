"""A small controller of loads on one server that keeps the contract between controller and driver.

It plays choices that Hypothesis makes, and skips those that the contract forbids at the time. While
a load brings bytes of a model into a tier, it does not start that model again: a worker would use
the bytes in memory, the simulator only those of acknowledged loads.
"""

from dataclasses import dataclass, field

from sllmcore.cluster.tier_cache import TierCache
from sllmcore.types import CACHE_TIERS, DRAM, REMOTE, SSD, StorageTier


@dataclass(frozen=True)
class StartChoice:
    """Start a model on some free GPU."""

    model: int
    cache_in: tuple[StorageTier, ...]


@dataclass(frozen=True)
class StopChoice:
    """Stop the nth instance."""

    nth: int


@dataclass(frozen=True)
class EvictChoice:
    """Evict the nth evictable model of a tier."""

    nth: int
    tier: StorageTier
    keeps_half: bool


@dataclass(frozen=True)
class WaitChoice:
    seconds: float


Choice = StartChoice | StopChoice | EvictChoice | WaitChoice


@dataclass(frozen=True)
class Start:
    instance_id: str
    model: str
    gpu: int
    cache_in: tuple[StorageTier, ...]
    after: str | None


@dataclass(frozen=True)
class Stop:
    instance_id: str
    loaded: bool


@dataclass(frozen=True)
class Evict:
    tier: StorageTier
    model: str
    keep_bytes: int


Command = Start | Stop | Evict


@dataclass
class _Load:
    model: str
    source: StorageTier
    pinned: tuple[StorageTier, ...]
    filling: tuple[StorageTier, ...]


@dataclass
class SmallController:
    """A controller of models with `sizes` bytes, in tiers with `capacity` bytes."""

    num_gpus: int
    sizes: dict[str, int]
    capacity: dict[StorageTier, int]
    caches: dict[StorageTier, TierCache] = field(init=False)
    occupants: dict[int, str] = field(default_factory=dict)
    queues: dict[StorageTier, list[str]] = field(init=False)
    loads: dict[str, _Load] = field(default_factory=dict)
    num_started: int = 0

    def __post_init__(self) -> None:
        self.caches = {tier: TierCache(self.capacity[tier]) for tier in CACHE_TIERS}
        self.queues = {tier: [] for tier in (REMOTE, SSD, DRAM)}

    def command(self, choice: Choice) -> Command | None:
        """Return the command of a choice; None: the choice is not possible now."""
        match choice:
            case StartChoice(model, cache_in):
                return self._start(f"m{model}", cache_in)
            case StopChoice(nth):
                return self._stop(nth)
            case EvictChoice(nth, tier, keeps_half):
                return self._evict(nth, tier, keeps_half=keeps_half)
            case WaitChoice():
                return None

    def load_finished(self, instance_id: str) -> None:
        """Handle the end of a load."""
        self._end(instance_id, filled=True)

    def _start(self, model: str, cache_in: tuple[StorageTier, ...]) -> Start | None:
        coming = any(load.filling and load.model == model for load in self.loads.values())
        free = [gpu for gpu in range(self.num_gpus) if gpu not in self.occupants]
        if not free or coming or self._reads_three_tiers(model):
            return None
        self.num_started += 1
        instance_id = f"i{self.num_started}"
        size = self.sizes[model]
        source = self._source(model)
        pinned = tuple(t for t in CACHE_TIERS if self.caches[t].resident_bytes(model))
        filling = tuple(t for t in cache_in if t > source and self._has_room(t, model))
        for tier in pinned:
            self.caches[tier].pin(model)
        for tier in filling:
            self.caches[tier].reserve(model, size - self.caches[tier].resident_bytes(model))
        queue = self.queues[source]
        after = queue[-1] if queue else None
        queue.append(instance_id)
        self.loads[instance_id] = _Load(model, source, pinned, filling)
        self.occupants[free[0]] = instance_id
        return Start(instance_id, model, free[0], filling, after)

    def _reads_three_tiers(self, model: str) -> bool:
        """Return True if a load reads from all tiers: the drivers disagree on its duration.

        Its bytes share the link to the GPU in the simulator; a paced storage does not model that.
        """
        resident = [self.caches[tier].resident_bytes(model) for tier in CACHE_TIERS]
        return all(resident) and self._source(model) is REMOTE

    def _source(self, model: str) -> StorageTier:
        from_dram = self.caches[DRAM].resident_bytes(model)
        if from_dram >= self.sizes[model]:
            return DRAM
        from_ssd = self.caches[SSD].resident_bytes(model)
        return SSD if from_dram + from_ssd >= self.sizes[model] else REMOTE

    def _has_room(self, tier: StorageTier, model: str) -> bool:
        cache = self.caches[tier]
        missing = self.sizes[model] - cache.resident_bytes(model)
        return 0 < missing <= cache.free_bytes and not cache.reserved(model)

    def _stop(self, nth: int) -> Stop | None:
        if not self.occupants:
            return None
        gpu = list(self.occupants)[nth % len(self.occupants)]
        instance_id = self.occupants.pop(gpu)
        loading = instance_id in self.loads
        if loading:
            self._end(instance_id, filled=False)
        return Stop(instance_id, not loading)

    def _end(self, instance_id: str, *, filled: bool) -> None:
        load = self.loads.pop(instance_id)
        self.queues[load.source].remove(instance_id)
        for tier in load.pinned:
            self.caches[tier].unpin(load.model)
        for tier in load.filling:
            if filled:
                self.caches[tier].fill(load.model)
            else:
                self.caches[tier].release(load.model)

    def _evict(self, nth: int, tier: StorageTier, *, keeps_half: bool) -> Evict | None:
        cache = self.caches[tier]
        evictable = list(cache.evictable())
        if not evictable:
            return None
        model = evictable[nth % len(evictable)]
        keep_bytes = cache.resident_bytes(model) // 2 if keeps_half else 0
        cache.evict(model, keep_bytes)
        return Evict(tier, model, keep_bytes)
