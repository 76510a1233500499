"""Protocols: the replaceable parts of the control plane and their read-only views of the cluster.

An implementation must not read a clock, do I/O, or draw random numbers except from a `RandomSource`
that it was given: with the same calls it must return the same values. It must not write to a view.

The state machines of the core share five verbs:

    handle(event, now_s)   process one event; return the resulting commands, in order (Controller)
    next_wakeup_s          property: time at which the machine must be called if nothing happens
                           before; None: no such time (Controller, Prewarmer)
    advance(now_s)         move the clock without an event (Prewarmer)
    observe...(...)        learn from a measurement; return nothing (estimators, Recorder)
    take...()              remove and return what has accumulated (inside the controller)

Times never decrease from call to call. Inside the controller, `handle_x` processes the event X.
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
    """An instance as the controller knows it."""

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
    def requests(self) -> Mapping[str, None]:
        """Ids of the requests that are bound to the instance or run there, in that order."""
        ...

    @property
    def incoming(self) -> Mapping[str, None]:
        """Ids of the migrations to this instance; each holds a slot."""
        ...

    @property
    def free_slots(self) -> int:
        """Number of further requests that can be bound; 0 if the instance is leaving."""
        ...

    @property
    def ready(self) -> bool:
        """True if the load has finished."""
        ...

    @property
    def leaving(self) -> bool:
        """True if the instance takes no new requests, because it is to free its GPUs."""
        ...

    @property
    def ready_at_s(self) -> float:
        """Time at which the load has finished; the expected time while it loads."""
        ...

    @property
    def helpers(self) -> tuple[str, ...]:
        """Ids of the servers that fetch or fetched a part of a split load."""
        ...

    @property
    def load_s(self) -> float:
        """Duration of the cold start; 0 before its end."""
        ...

    @property
    def idle_since_s(self) -> float | None:
        """Time since which the instance has had no request; None if it has one."""
        ...


class ServerView(Protocol):
    """A server as the controller knows it."""

    @property
    def id(self) -> str: ...
    @property
    def spec(self) -> ServerSpec: ...
    @property
    def join_index(self) -> int:
        """Number of servers that joined before this one; breaks ties."""
        ...

    @property
    def num_available(self) -> int:
        """Number of GPUs that a new instance can get at once: free ones and reclaimable idle ones.

        0 if the server is draining.
        """
        ...

    @property
    def num_free(self) -> int:
        """Number of GPUs without an occupant or a next occupant."""
        ...

    @property
    def draining(self) -> bool:
        """True if nothing new may start on the server."""
        ...

    @property
    def instances(self) -> Mapping[str, InstanceView]: ...
    @property
    def helped(self) -> Mapping[str, InstanceView]:
        """Instances on other servers for which this server fetches or fetched a part."""
        ...

    def could_hold(self, checkpoint: Checkpoint) -> bool:
        """Return True if an instance fits this server when it is empty."""
        ...

    def free_gpus(self) -> Iterator[int]:
        """Yield the indices of the free GPUs."""
        ...

    def pick_gpus(self, num_gpus: int) -> tuple[int, ...] | None:
        """Return available GPUs, free ones first; None if there are not enough."""
        ...

    def resident_bytes(self, tier: StorageTier, model: str) -> int:
        """Return the number of bytes of `model` in a cache tier."""
        ...

    def queue_wait_s(self, tier: StorageTier, now_s: float) -> float:
        """Return the time that a new load from `tier` waits for earlier loads."""
        ...


class RequestStateView(Protocol):
    """An open request as the controller knows it."""

    @property
    def request(self) -> Request: ...
    @property
    def running_since_s(self) -> float:
        """Time of the last `StartRequest`; 0 before the first."""
        ...

    @property
    def num_preemptions(self) -> int: ...
    @property
    def backoff_until_s(self) -> float:
        """End of the back-off after failed migrations; 0 if there was none."""
        ...

    @property
    def can_migrate(self) -> bool:
        """True if the request runs and is not being migrated or stopped."""
        ...


class ClusterView(Protocol):
    """The cluster as the controller knows it.

    A scheduler should use the methods with a `limit` rather than iterate over all servers, so that
    the cost of a decision does not grow with the cluster.
    """

    @property
    def checkpoints(self) -> Mapping[str, Checkpoint]:
        """Checkpoints of all models that were ever deployed, by model."""
        ...

    @property
    def num_slots(self) -> Mapping[str, int]:
        """Number of slots of one instance, by model."""
        ...

    @property
    def servers(self) -> Mapping[str, ServerView]: ...
    @property
    def instances(self) -> Mapping[str, InstanceView]: ...
    @property
    def request_states(self) -> Mapping[str, RequestStateView]:
        """Open requests by id."""
        ...

    def open_instances(self, model: str) -> Iterable[InstanceView]:
        """Return the instances of `model` with a free slot, loading or ready."""
        ...

    def holders(self, tier: StorageTier, model: str, limit: int) -> Sequence[ServerView]:
        """Return at most `limit` servers that hold some bytes of `model` in `tier`.

        If there are more, the selection rotates from request to request.
        """
        ...

    def servers_with(self, num_gpus: int, limit: int) -> Sequence[ServerView]:
        """Return at most `limit` servers with `num_gpus` available GPUs, most available first."""
        ...

    def num_servers_with(self, num_gpus: int) -> int:
        """Return the number of servers with at least `num_gpus` available GPUs."""
        ...

    def server_with(self, num_gpus: int, position: int) -> ServerView:
        """Return one of the `num_servers_with(num_gpus)` servers, by position."""
        ...


class LoadingTimeEstimator(Protocol):
    """Predicts the duration of a cold start from a checkpoint, a server and its load queues."""

    def estimate(self, checkpoint: Checkpoint, server: ServerView, now_s: float) -> LoadEstimate:
        """Return the expected time until an instance launched at `now_s` can serve."""
        ...

    def observe(
        self, checkpoint: Checkpoint, server: ServerView, source: StorageTier, load: "LoadSample"
    ) -> None:
        """Learn from a load that has finished."""
        ...


class LoadSample(Protocol):
    """The measurements of a finished load; the fields are those of `LoadFinished`."""

    @property
    def num_bytes(self) -> int: ...
    @property
    def transfer_s(self) -> float: ...
    @property
    def startup_s(self) -> float: ...


class MigrationTimePredictor(Protocol):
    """Predicts the duration of a migration to an instance that is ready."""

    def resume_s(self, request_state: RequestStateView, now_s: float) -> float:
        """Return the expected time from `StartMigration` to `MigrationFinished`."""
        ...

    def observe_resume(self, model: str, num_tokens: int, resume_s: float) -> None:
        """Learn from a migration of `num_tokens` of context that took `resume_s`."""
        ...

    def observe_decode(self, model: str, output_tokens: int, decode_s: float) -> None:
        """Learn from a finished request: `decode_s` passed from its first to its last token."""
        ...


class ResidencyPolicy(Protocol):
    """Decides how long idle instances keep their GPUs and which models the cache tiers keep."""

    @property
    def reclaims_idle(self) -> bool:
        """True if other models may take an idle instance's GPUs before its keep-alive ends."""
        ...

    def instance_keep_alive_s(self, instance: InstanceView) -> float | None:
        """Return how long this instance may stay idle; None: until its GPUs are needed."""
        ...

    def cache_in(self, source: StorageTier) -> tuple[StorageTier, ...]:
        """Return the tiers that keep a copy of a load from `source`."""
        ...

    def evictions(
        self, evictable: Iterable[tuple[str, int]], needed_bytes: int
    ) -> list[tuple[str, int]] | None:
        """Choose models to evict so that at least `needed_bytes` become free.

        `evictable` yields (model, resident bytes), least recently used first. Returns (model, bytes
        to keep) for each chosen model; None if evicting all of them is not enough.
        """
        ...


class RandomSource(Protocol):
    """A source of random numbers, for example `random.Random`."""

    def randrange(self, stop: int, /) -> int: ...


class Scheduler(Protocol):
    """Decides where a request runs.

    The decision must depend only on the arguments, on earlier calls and on the `RandomSource`.
    """

    def decide(self, request: Request, cluster: ClusterView, now_s: float) -> Decision:
        """Return the decision for a request that waits. The cluster is not changed."""
        ...


class RequestWatcher(Protocol):
    """Counts open requests: the controller calls it for each request that opens or closes."""

    def opened(self, model: str) -> None:
        """Count a request that has arrived."""
        ...

    def closed(self, model: str) -> None:
        """Count a request that has ended, for whatever reason."""
        ...


class Prewarmer(Protocol):
    """Plans launches before demand. With the same calls it must return the same plans."""

    @property
    def watcher(self) -> RequestWatcher:
        """The observer of requests, which the controller calls."""
        ...

    def advance(self, now_s: float) -> None:
        """Advance the clock to `now_s`. Called before any other call with the same time."""
        ...

    @property
    def next_wakeup_s(self) -> float | None:
        """Time of the next plan; None: no plan before another event."""
        ...

    def plan(self, cluster: ClusterView, now_s: float) -> Sequence[Prewarm]:
        """Return the instances to launch, in order.

        Their GPUs are disjoint, and none of them belongs to an instance that has requests.
        """
        ...
