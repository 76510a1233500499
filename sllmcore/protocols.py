"""The replaceable parts of the control plane, and what they may see of the cluster.

None of them may read a clock, do I/O, or draw randomness that was not passed in. The views are
read-only: a policy that writes to them breaks every other one.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from sllmcore.decisions import Decision, Prewarm
from sllmcore.types import (
    Checkpoint,
    LoadEstimate,
    Request,
    ServerSpec,
    StorageTier,
)


class InstanceView(Protocol):
    """One instance, as believed."""

    @property
    def id(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def server_id(self) -> str: ...
    @property
    def gpu_indices(self) -> tuple[int, ...]: ...
    @property
    def num_gpus(self) -> int: ...
    @property
    def requests(self) -> Mapping[str, None]: ...
    @property
    def incoming(self) -> Mapping[str, None]: ...
    @property
    def free_slots(self) -> int: ...
    @property
    def ready(self) -> bool: ...
    @property
    def leaving(self) -> bool: ...
    @property
    def ready_at_s(self) -> float: ...
    @property
    def helpers(self) -> tuple[str, ...]: ...
    @property
    def load_s(self) -> float: ...
    @property
    def idle_since_s(self) -> float | None: ...


class ServerView(Protocol):
    """One server, as believed."""

    @property
    def id(self) -> str: ...
    @property
    def spec(self) -> ServerSpec: ...
    @property
    def join_index(self) -> int:
        """Return how many servers had joined before: it breaks ties."""
        ...

    @property
    def num_available(self) -> int: ...
    @property
    def num_free(self) -> int: ...
    @property
    def draining(self) -> bool: ...
    @property
    def instances(self) -> Mapping[str, InstanceView]: ...
    @property
    def helped(self) -> Mapping[str, InstanceView]:
        """Instances elsewhere that this server has fetched a part for."""
        ...

    def could_hold(self, checkpoint: Checkpoint) -> bool: ...
    def free_gpus(self) -> Iterator[int]: ...
    def pick_gpus(self, num_gpus: int) -> tuple[int, ...] | None: ...
    def resident_bytes(self, tier: StorageTier, model: str) -> int: ...
    def queue_wait_s(self, tier: StorageTier, now_s: float) -> float: ...


class RequestStateView(Protocol):
    """What the controller knows about a request that it has not finished with."""

    @property
    def request(self) -> Request: ...
    @property
    def running_since_s(self) -> float: ...
    @property
    def num_preemptions(self) -> int: ...
    @property
    def backoff_until_s(self) -> float:
        """Not to be moved before: a migration of it has failed."""
        ...

    @property
    def can_migrate(self) -> bool:
        """Whether it is generating, and not being moved or stopped already."""
        ...


class ClusterView(Protocol):
    """The cluster, as believed. The methods with a `limit` are the cheap way to look at it."""

    @property
    def checkpoints(self) -> Mapping[str, Checkpoint]: ...
    @property
    def num_slots(self) -> Mapping[str, int]: ...
    @property
    def servers(self) -> Mapping[str, ServerView]: ...
    @property
    def instances(self) -> Mapping[str, InstanceView]: ...
    @property
    def request_states(self) -> Mapping[str, RequestStateView]: ...
    def open_instances(self, model: str) -> Iterable[InstanceView]: ...
    def holders(self, tier: StorageTier, model: str, limit: int) -> Sequence[ServerView]: ...
    def servers_with(self, num_gpus: int, limit: int) -> Sequence[ServerView]: ...
    def num_servers_with(self, num_gpus: int) -> int: ...
    def server_with(self, num_gpus: int, position: int) -> ServerView: ...


class LoadingTimeEstimator(Protocol):
    """Predicts how long a checkpoint takes to reach a server's GPUs."""

    def estimate(
        self, checkpoint: Checkpoint, server: ServerView, now_s: float
    ) -> LoadEstimate: ...

    def observe(
        self, checkpoint: Checkpoint, server: ServerView, source: StorageTier, load: "LoadSample"
    ) -> None:
        """Learn from a load that has finished."""
        ...


class LoadSample(Protocol):
    """The measured part of a `LoadFinished`."""

    @property
    def num_bytes(self) -> int: ...
    @property
    def transfer_s(self) -> float: ...
    @property
    def startup_s(self) -> float: ...


class MigrationTimePredictor(Protocol):
    """Predicts how long a running inference takes to resume elsewhere, the load apart."""

    def resume_s(self, request_state: RequestStateView, now_s: float) -> float: ...

    def observe_resume(self, model: str, num_tokens: int, resume_s: float) -> None:
        """Learn from a migration: a context of `num_tokens` was there in `resume_s`."""
        ...

    def observe_decode(self, model: str, output_tokens: int, decode_s: float) -> None:
        """Learn from a finished inference: `decode_s` from its first to its last token."""
        ...


class ResidencyPolicy(Protocol):
    """What stays: idle instances on GPUs, models in DRAM and on SSD."""

    @property
    def reclaims_idle(self) -> bool:
        """Whether an idle instance makes room for another model before its keep-alive ends."""
        ...

    def instance_keep_alive_s(self, instance: InstanceView) -> float | None:
        """How long this instance may stay idle; None: until its GPUs are wanted."""
        ...

    def cache_in(self, source: StorageTier) -> tuple[StorageTier, ...]:
        """The tiers that keep the bytes of a load that comes from `source`."""
        ...

    def evictions(
        self, evictable: Iterable[tuple[str, int]], needed_bytes: int
    ) -> list[tuple[str, int]] | None:
        """Which of (model, its bytes), least recently used first, to evict so that at least
        `needed_bytes` become free: (model, bytes to keep). None if they cannot."""
        ...


class RandomSource(Protocol):
    """Chance, passed in: `random.Random` is one."""

    def randrange(self, stop: int, /) -> int: ...


class Scheduler(Protocol):
    """Chooses where a request runs. Same arguments, same history: same decision."""

    def decide(self, request: Request, cluster: ClusterView, now_s: float) -> Decision: ...


class RequestWatcher(Protocol):
    """Hears of each request that comes and of each that ends, however it ends."""

    def opened(self, model: str) -> None: ...

    def closed(self, model: str) -> None: ...


class Prewarmer(Protocol):
    """Launches instances ahead of demand, now and then. Same history: same plans."""

    @property
    def watcher(self) -> RequestWatcher: ...

    def advance(self, now_s: float) -> None:
        """It is `now_s`: said before anything else that happens then."""
        ...

    @property
    def next_wakeup_s(self) -> float | None:
        """When to ask for a plan; None: not before something happens."""
        ...

    def plan(self, cluster: ClusterView, now_s: float) -> Sequence[Prewarm]:
        """What to launch now, in this order. No two of them share a GPU, and what is there now
        and has a request keeps its own."""
        ...
