"""Launching and stopping instances: GPUs, cache tiers, load queues and the commands for them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sllmcore.cluster.instance import LOADING, READY, RESERVED, Instance
from sllmcore.cluster.server import Server
from sllmcore.cluster.state import ClusterState
from sllmcore.commands import EvictCopy, LaunchInstance, StopInstance
from sllmcore.controller.outbox import CommandOutbox
from sllmcore.errors import ControlError
from sllmcore.events import LoadFinished
from sllmcore.protocols import LoadingTimeEstimator, ResidencyPolicy
from sllmcore.types import CACHE_TIERS, Checkpoint, LoadEstimate, StorageTier


@dataclass(frozen=True, slots=True)
class _Load:
    """A load in progress and the tiers that it uses."""

    source: StorageTier
    began_at_s: float
    pinned: tuple[StorageTier, ...]  # tiers that it reads
    filling: tuple[StorageTier, ...]  # tiers with space reserved for its bytes


class Launcher:
    """The only writer of GPU occupancy and of the cache tiers."""

    def __init__(
        self,
        cluster: ClusterState,
        estimator: LoadingTimeEstimator,
        residency: ResidencyPolicy,
        outbox: CommandOutbox,
    ) -> None:
        self._cluster = cluster
        self._estimator = estimator
        self._residency = residency
        self._outbox = outbox
        self._loads: dict[str, _Load] = {}  # by instance id
        self._num_launched = 0

    def launch(
        self,
        model: str,
        server_id: str,
        gpu_indices: tuple[int, ...],
        waits_for: Sequence[Instance],
        now_s: float,
        helpers: tuple[str, ...] = (),
    ) -> Instance:
        """Launch an instance on these GPUs, once the instances `waits_for` have left them.

        Idle instances on the GPUs are stopped at once.
        """
        server = self._cluster.servers[server_id]
        for index in gpu_indices:
            occupant = server.occupants[index]
            if occupant is not None and occupant.idle:
                self.stop(occupant, now_s)
        self._num_launched += 1
        instance_id = f"i{self._num_launched}"
        slots = self._cluster.num_slots[model]
        instance = Instance(
            instance_id=instance_id,
            model=model,
            server_id=server_id,
            gpu_indices=gpu_indices,
            slots=slots,
        )
        instance.helpers = helpers
        self._cluster.add_instance(instance, waits_for)
        if not instance.waits_for:
            self._begin_load(instance, now_s)
        return instance

    def stop(self, instance: Instance, now_s: float) -> None:
        """Stop an instance and free its GPUs; next occupants begin to load."""
        if instance.state is not RESERVED:
            self._outbox.add(StopInstance(self._outbox.next_id(), instance.id))
        self.remove(instance, now_s)

    def remove(self, instance: Instance, now_s: float) -> None:
        """Free the GPUs of an instance that no longer exists; next occupants begin to load."""
        if instance.id in self._loads:
            self._end_load(instance, now_s, filled=False)
        for next_occupant in self._cluster.remove_instance(instance):
            self._begin_load(next_occupant, now_s)

    def finish_load(self, instance: Instance, event: LoadFinished, now_s: float) -> None:
        """Make an instance ready: learn from its load and count its bytes as resident."""
        load = self._end_load(instance, now_s, filled=True)
        checkpoint = self._cluster.checkpoints[instance.model]
        server = self._cluster.servers[instance.server_id]
        self._estimator.observe(checkpoint, server, event.source, event)
        instance.load_s = now_s - load.began_at_s
        instance.ready_at_s = now_s
        self._cluster.set_state(instance, READY)

    def remove_server(self, server: Server) -> None:
        """Remove a lost server with its instances and loads."""
        for instance_id in server.instances:
            self._loads.pop(instance_id, None)
        self._cluster.remove_server(server)

    def _begin_load(self, instance: Instance, now_s: float) -> None:
        server = self._cluster.servers[instance.server_id]
        checkpoint = self._cluster.checkpoints[instance.model]
        estimate = self._estimator.estimate(checkpoint, server, now_s)
        if instance.helpers:
            part_s = estimate.transfer_s / (1 + len(instance.helpers))
            estimate = replace(estimate, transfer_s=part_s)
        self._reserve_tiers(
            instance=instance,
            server=server,
            checkpoint=checkpoint,
            source=estimate.source,
            now_s=now_s,
        )
        queue = server.queues[estimate.source]
        after = queue.last
        queue.add(instance.id, estimate.transfer_s, now_s)
        instance.ready_at_s = now_s + estimate.total_s
        self._cluster.set_state(instance, LOADING)
        self._send_launch(instance, estimate, after)

    def _send_launch(self, instance: Instance, estimate: LoadEstimate, after: str | None) -> None:
        self._outbox.add(
            LaunchInstance(
                id=self._outbox.next_id(),
                instance_id=instance.id,
                model=instance.model,
                server_id=instance.server_id,
                gpu_indices=instance.gpu_indices,
                estimate=estimate,
                cache_in=self._loads[instance.id].filling,
                after=after,
                helpers=instance.helpers,
            )
        )

    def _reserve_tiers(
        self,
        instance: Instance,
        server: Server,
        checkpoint: Checkpoint,
        source: StorageTier,
        now_s: float,
    ) -> None:
        """Pin the copies that the load reads and reserve space for those that it leaves."""
        model = checkpoint.model
        pinned = [tier for tier in CACHE_TIERS if server.caches[tier].resident_bytes(model)]
        for tier in pinned:
            server.caches[tier].pin(model)
            server.caches[tier].touch(model)
        filling = [
            tier
            for tier in self._residency.cache_in(source)
            if not instance.helpers and self._reserve_room(server, tier, checkpoint)
        ]
        self._loads[instance.id] = _Load(source, now_s, tuple(pinned), tuple(filling))

    def _reserve_room(self, server: Server, tier: StorageTier, checkpoint: Checkpoint) -> bool:
        """Reserve space in `tier` for the missing bytes of a checkpoint, evicting as needed.

        Returns False if nothing is missing, or if it does not fit.
        """
        cache, model = server.caches[tier], checkpoint.model
        missing_bytes = checkpoint.size_bytes - cache.resident_bytes(model)
        if missing_bytes <= 0 or cache.reserved(model):
            return False
        short_bytes = missing_bytes - cache.free_bytes
        if short_bytes > 0:
            evictable = ((m, cache.resident_bytes(m)) for m in cache.evictable() if m != model)
            victims = self._residency.evictions(evictable, short_bytes)
            if victims is None:
                return False
            for victim, keep_bytes in victims:
                self.evict(server, tier, victim, keep_bytes)
        cache.reserve(model, missing_bytes)
        return True

    def evict(self, server: Server, tier: StorageTier, model: str, keep_bytes: int = 0) -> None:
        """Evict all but `keep_bytes` of a model from a tier."""
        self._cluster.evict(server, tier, model, keep_bytes)
        self._outbox.add(
            EvictCopy(
                id=self._outbox.next_id(),
                server_id=server.id,
                tier=tier,
                model=model,
                keep_bytes=keep_bytes,
            )
        )

    def _end_load(self, instance: Instance, now_s: float, *, filled: bool) -> _Load:
        load = self._loads.pop(instance.id, None)
        if load is None:
            raise ControlError(f"{instance.id} is not loading")
        server = self._cluster.servers[instance.server_id]
        server.queues[load.source].remove(instance.id, now_s)
        for tier in load.pinned:
            server.caches[tier].unpin(instance.model)
        for tier in load.filling:
            if filled:
                self._cluster.fill(server, tier, instance.model)
            else:
                server.caches[tier].release(instance.model)
        return load
