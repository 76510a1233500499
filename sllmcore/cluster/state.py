"""The state of the cluster, with indices that make a decision independent of the cluster's size.

The indices are updated only by the mutators of `ClusterState`:
- model -> instances with a free slot, ready or loading;
- tier -> model -> servers that hold some bytes of it;
- number of available GPUs -> servers.
`audit` compares them with the state; the tests call it after every event.
"""

from collections.abc import Iterable, Sequence

from sllmcore.cluster.indexed_set import IndexedSet
from sllmcore.cluster.instance import RESERVED, Instance, InstanceState
from sllmcore.cluster.request_state import RequestState
from sllmcore.cluster.server import Server
from sllmcore.cluster.worklist import Worklist
from sllmcore.errors import ControlError, UsageError
from sllmcore.protocols import RequestWatcher
from sllmcore.types import CACHE_TIERS, Checkpoint, Residency, ServerSpec, StorageTier

_NO_INSTANCES: dict[str, Instance] = {}
_NO_SERVERS = IndexedSet()


class ClusterState:
    """Servers, instances, checkpoints and open requests. Policies see a `ClusterView` of it."""

    def __init__(self, *, sequential_loading: bool = True, reclaims_idle: bool = True) -> None:
        self._sequential_loading = sequential_loading
        self._reclaims_idle = reclaims_idle
        self.checkpoints: dict[str, Checkpoint] = {}
        self.num_slots: dict[str, int] = {}  # slots of one instance, by model
        self.servers: dict[str, Server] = {}
        self.instances: dict[str, Instance] = {}
        self.request_states: dict[str, RequestState] = {}  # open requests by id
        self.watcher: RequestWatcher | None = None  # counts open requests
        self.num_arrivals = 0
        self.worklist = Worklist()
        self._num_joined = 0
        self._open: dict[str, dict[str, Instance]] = {}  # instances with a free slot, by model
        self._holders: dict[StorageTier, dict[str, IndexedSet]] = {t: {} for t in CACHE_TIERS}
        self._by_available: list[IndexedSet] = [IndexedSet()]
        self._bucket: dict[str, int] = {}  # index into `_by_available`, by server id

    # Queries of policies.

    def open_instances(self, model: str) -> Iterable[Instance]:
        """Return the instances of `model` with a free slot, loading or ready."""
        return self._open.get(model, _NO_INSTANCES).values()

    def holders(self, tier: StorageTier, model: str, limit: int) -> Sequence[Server]:
        """Return at most `limit` servers that hold some bytes of `model` in `tier`.

        If there are more, the selection rotates from request to request.
        """
        ids = self._holders[tier].get(model)
        if ids is None:
            return ()
        servers = self.servers
        return [servers[server_id] for server_id in ids.window(limit, self.num_arrivals)]

    def servers_with(self, num_gpus: int, limit: int) -> Sequence[Server]:
        """Return at most `limit` servers with `num_gpus` available GPUs, most available first."""
        found: list[Server] = []
        servers = self.servers
        for available in range(len(self._by_available) - 1, num_gpus - 1, -1):
            ids = self._by_available[available]
            if len(ids):
                few = ids.window(limit - len(found), self.num_arrivals)
                found += [servers[server_id] for server_id in few]
                if len(found) >= limit:
                    break
        return found

    def num_servers_with(self, num_gpus: int) -> int:
        """Return the number of servers with at least `num_gpus` available GPUs."""
        return sum(len(ids) for ids in self._by_available[num_gpus:])

    def server_with(self, num_gpus: int, position: int) -> Server:
        """Return one of the `num_servers_with(num_gpus)` servers, by position.

        Raises:
            IndexError: There is no server at `position`.
        """
        for ids in self._by_available[num_gpus:]:
            if position < len(ids):
                return self.servers[ids[position]]
            position -= len(ids)
        raise IndexError("position must be less than num_servers_with(num_gpus)")

    def next_occupants_of(self, instance: Instance) -> list[Instance]:
        """Return the reserved instances that wait for this one to leave its GPUs."""
        server = self.servers[instance.server_id]
        return [other for other in server.instances.values() if instance.id in other.waits_for]

    # Servers.

    def add_server(self, spec: ServerSpec, resident: Iterable[Residency]) -> Server:
        """Add a server with the models in its tiers.

        Raises:
            UsageError: The models do not fit the tiers, or the id is in use.
        """
        if spec.id in self.servers:
            raise UsageError(
                f"server {spec.id} has joined already; a server needs an id of its own"
            )
        server = Server(
            spec,
            self._num_joined,
            sequential_loading=self._sequential_loading,
            reclaims_idle=self._reclaims_idle,
        )
        for found in resident:
            if found.tier not in server.caches:
                raise UsageError(
                    f"{found.model} cannot be resident in {found.tier.name}, only in DRAM or SSD"
                )
            server.caches[found.tier].put(found.model, found.num_bytes)
        self._num_joined += 1
        self.servers[spec.id] = server
        while len(self._by_available) <= spec.num_gpus:
            self._by_available.append(IndexedSet())
        self._index_availability(server)
        for found in resident:
            self._index_holder(server, found.tier, found.model)
        return server

    def set_draining(self, server: Server) -> None:
        """Make the server's GPUs unavailable for new instances."""
        server.draining = True
        self._index_availability(server)

    def remove_server(self, server: Server) -> None:
        """Remove a server, its instances and the contents of its tiers."""
        for instance in list(server.instances.values()):
            self._remove_instance(instance)
        for tier in CACHE_TIERS:
            for ids in self._holders[tier].values():
                ids.discard(server.id)
        for instance in server.helped.values():
            instance.helpers = tuple(name for name in instance.helpers if name != server.id)
        self._by_available[self._bucket.pop(server.id)].discard(server.id)
        self.worklist.servers.pop(server.id, None)
        del self.servers[server.id]

    # Requests.

    def open_request(self, request_state: RequestState) -> None:
        """Add a request that has arrived."""
        self.request_states[request_state.request.id] = request_state
        if self.watcher is not None:
            self.watcher.opened(request_state.request.model)

    def close_request(self, request_id: str) -> None:
        """Remove a request that has ended."""
        request_state = self.request_states.pop(request_id)
        if self.watcher is not None:
            self.watcher.closed(request_state.request.model)

    # Instances.

    def add_instance(self, instance: Instance, waits_for: Iterable[Instance]) -> None:
        """Make an instance the occupant of its GPUs, or the next occupant of those in use.

        Raises:
            ControlError: A GPU has an occupant that is not in `waits_for`, or a next occupant.
        """
        server = self.servers[instance.server_id]
        for other in waits_for:
            instance.waits_for[other.id] = None
        for index in instance.gpu_indices:
            occupant = server.occupants[index]
            if server.next_occupants[index] is not None:
                raise ControlError(f"GPU {index} of {server.id} has a next occupant already")
            if occupant is None:
                server.occupants[index] = instance
                server.num_free -= 1
            elif occupant.id in instance.waits_for:
                server.next_occupants[index] = instance
            else:
                raise ControlError(f"GPU {index} of {server.id} is occupied by {occupant.id}")
        self.instances[instance.id] = server.instances[instance.id] = instance
        for helper_id in instance.helpers:
            self.servers[helper_id].helped[instance.id] = instance
        self._index_availability(server)

    def remove_instance(self, instance: Instance) -> list[Instance]:
        """Remove an instance. Return the reserved instances that now have all of their GPUs."""
        server = self.servers[instance.server_id]
        self._clear_idle(instance, server)
        complete = []
        occupants, next_occupants = server.occupants, server.next_occupants
        for index in instance.gpu_indices:
            if next_occupants[index] is instance:
                next_occupants[index] = None
            if occupants[index] is not instance:
                continue
            next_occupant = occupants[index] = next_occupants[index]
            next_occupants[index] = None
            if next_occupant is None:
                server.num_free += 1
            elif instance.id in next_occupant.waits_for:
                del next_occupant.waits_for[instance.id]
                if not next_occupant.waits_for:
                    complete.append(next_occupant)
        self._remove_instance(instance)
        self._index_availability(server)
        return complete

    def set_state(self, instance: Instance, state: InstanceState) -> None:
        """Set the phase of an instance."""
        instance.state = state
        self._index_open(instance)

    def set_leaving(self, instance: Instance, leaving: bool) -> None:
        """Set whether an instance is leaving. A retired instance stays leaving."""
        instance.leaving = leaving or instance.retired
        self._index_open(instance)

    def bind(self, request_id: str, instance: Instance) -> None:
        """Give a request one of the instance's slots.

        Raises:
            ControlError: No slot is free.
        """
        if instance.free_slots <= 0:
            raise ControlError(f"{instance.id} has no free slot for {request_id}")
        if instance.idle_since_s is not None:
            self._end_idle(instance)
        instance.requests[request_id] = None
        self._index_open(instance)

    def unbind(self, request_id: str, instance: Instance) -> None:
        """Free the slot of a request."""
        del instance.requests[request_id]
        self._index_open(instance)

    def reserve_slot(self, move_id: str, instance: Instance) -> None:
        """Reserve one of the instance's slots for a migration.

        Raises:
            ControlError: No slot is free.
        """
        if instance.free_slots <= 0:
            raise ControlError(f"{instance.id} has no free slot for {move_id}")
        if instance.idle_since_s is not None:
            self._end_idle(instance)
        instance.incoming[move_id] = None
        self._index_open(instance)

    def fill_reserved_slot(self, move_id: str, request_id: str, instance: Instance) -> None:
        """Give the slot reserved for a migration to its request."""
        del instance.incoming[move_id]
        instance.requests[request_id] = None

    def release_slot(self, move_id: str, instance: Instance) -> None:
        """Free the slot reserved for a migration."""
        del instance.incoming[move_id]
        self._index_open(instance)

    def set_idle(self, instance: Instance, now_s: float) -> None:
        """Mark an instance without requests as idle, so that its GPUs become available."""
        server = self.servers[instance.server_id]
        instance.idle_since_s = now_s
        server.idle[instance.id] = instance
        server.num_idle += instance.num_gpus
        self._index_availability(server)

    # Tiers.

    def fill(self, server: Server, tier: StorageTier, model: str) -> None:
        """Turn the bytes reserved for a model in a tier into present bytes."""
        server.caches[tier].fill(model)
        self._index_holder(server, tier, model)

    def evict(self, server: Server, tier: StorageTier, model: str, keep_bytes: int) -> None:
        """Remove all but `keep_bytes` of a model from a tier."""
        server.caches[tier].evict(model, keep_bytes)
        self._index_holder(server, tier, model)

    # Indices.

    def _remove_instance(self, instance: Instance) -> None:
        del self.instances[instance.id]
        del self.servers[instance.server_id].instances[instance.id]
        for helper_id in instance.helpers:
            del self.servers[helper_id].helped[instance.id]
        self._open.get(instance.model, {}).pop(instance.id, None)

    def _end_idle(self, instance: Instance) -> None:
        server = self.servers[instance.server_id]
        self._clear_idle(instance, server)
        self._index_availability(server)

    @staticmethod
    def _clear_idle(instance: Instance, server: Server) -> None:
        if instance.idle_since_s is not None:
            instance.idle_since_s = None
            del server.idle[instance.id]
            server.num_idle -= instance.num_gpus

    def _index_open(self, instance: Instance) -> None:
        instances = self._open.get(instance.model)
        if instance.state is not RESERVED and instance.free_slots > 0:
            if instances is None:
                instances = self._open[instance.model] = {}
            instances[instance.id] = instance
        elif instances is not None:
            instances.pop(instance.id, None)

    def _index_holder(self, server: Server, tier: StorageTier, model: str) -> None:
        holders = self._holders[tier].get(model)
        if holders is None:
            holders = self._holders[tier][model] = IndexedSet()
        if server.caches[tier].resident_bytes(model):
            if server.id not in holders:
                self.worklist.models[model] = None
            holders.add(server.id)
        else:
            holders.discard(server.id)

    def _index_availability(self, server: Server) -> None:
        bucket, num_available = self._bucket.get(server.id), server.num_available
        if bucket == num_available:
            return
        if bucket is not None:
            self._by_available[bucket].discard(server.id)
        if num_available > (bucket or 0):
            self.worklist.servers[server.id] = None
        self._bucket[server.id] = num_available
        self._by_available[num_available].add(server.id)

    def audit(self) -> None:
        """Compare every index and count with the state.

        Raises:
            ControlError: An index or a count is wrong.
        """
        for server in self.servers.values():
            _audit_server(server, self._by_available[server.num_available])
            for tier, cache in server.caches.items():
                for model in self.checkpoints:
                    held = server.id in self._holders[tier].get(model, _NO_SERVERS)
                    if held != bool(cache.resident_bytes(model)):
                        raise ControlError(
                            f"the index of holders of {model} in {tier.name} is wrong"
                        )
        for instance in self.instances.values():
            listed = instance.id in self._open.get(instance.model, _NO_INSTANCES)
            is_open = instance.free_slots > 0 and instance.state is not RESERVED
            if listed != is_open:
                raise ControlError(
                    f"{instance.id} is open: {is_open}, but indexed as open: {listed}"
                )


def _audit_server(server: Server, bucket: IndexedSet) -> None:
    pairs = list(zip(server.occupants, server.next_occupants, strict=True))
    num_free = sum(occupant is None and next_occupant is None for occupant, next_occupant in pairs)
    num_idle = sum(occupant is not None and occupant.idle for occupant, _ in pairs)
    if (num_free, num_idle) != (server.num_free, server.num_idle):
        raise ControlError(
            f"{server.id} counts {server.num_free} free and {server.num_idle} idle GPUs"
        )
    if server.id not in bucket:
        raise ControlError(f"{server.id} is not indexed under {server.num_available} GPUs")
    for cache in server.caches.values():
        if not 0 <= cache.used_bytes <= cache.capacity_bytes:
            raise ControlError(
                f"{server.id} uses {cache.used_bytes} of {cache.capacity_bytes} bytes"
            )
