"""The whole cluster as believed, and the indices that keep a decision from looking at all of it.

Indices, each updated by the few mutators below and by nothing else:
- model -> instances with a free slot, ready or loading;
- tier -> model -> servers that hold some of it;
- number of available GPUs -> servers.
`audit` recomputes them from scratch; the tests call it after every event.
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
    """Servers, instances and checkpoints. Policies see it as a `ClusterView`."""

    def __init__(self, *, sequential_loading: bool = True, reclaims_idle: bool = True) -> None:
        self._sequential_loading = sequential_loading
        self._reclaims_idle = reclaims_idle
        self.checkpoints: dict[str, Checkpoint] = {}
        self.num_slots: dict[str, int] = {}  # of one instance, by model
        self.servers: dict[str, Server] = {}
        self.instances: dict[str, Instance] = {}
        self.request_states: dict[str, RequestState] = {}  # by request id, from arrival to end
        self.watcher: RequestWatcher | None = None  # of what enters and leaves `request_states`
        self.num_arrivals = 0
        self.worklist = Worklist()
        self._num_joined = 0
        self._open: dict[str, dict[str, Instance]] = {}
        self._holders: dict[StorageTier, dict[str, IndexedSet]] = {t: {} for t in CACHE_TIERS}
        self._by_available: list[IndexedSet] = [IndexedSet()]
        self._bucket: dict[str, int] = {}  # the server's place in `_by_available`

    # What policies ask.

    def open_instances(self, model: str) -> Iterable[Instance]:
        """Instances with a free slot, ready or loading, oldest first."""
        return self._open.get(model, _NO_INSTANCES).values()

    def holders(self, tier: StorageTier, model: str, limit: int) -> Sequence[Server]:
        """At most `limit` servers that hold some of `model` in `tier`: all, or a rotating few."""
        ids = self._holders[tier].get(model)
        if ids is None:
            return ()
        servers = self.servers
        return [servers[server_id] for server_id in ids.window(limit, self.num_arrivals)]

    def servers_with(self, num_gpus: int, limit: int) -> Sequence[Server]:
        """At most `limit` servers with that many available GPUs, those with most of them first."""
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
        return sum(len(ids) for ids in self._by_available[num_gpus:])

    def server_with(self, num_gpus: int, position: int) -> Server:
        """The server at `position` among the `num_servers_with` that many available GPUs."""
        for ids in self._by_available[num_gpus:]:
            if position < len(ids):
                return self.servers[ids[position]]
            position -= len(ids)
        raise IndexError(f"no server at position {position}")

    def next_occupants_of(self, instance: Instance) -> list[Instance]:
        """Reserved instances that wait for this one to leave."""
        server = self.servers[instance.server_id]
        return [other for other in server.instances.values() if instance.id in other.waits_for]

    # Servers.

    def add_server(self, spec: ServerSpec, resident: Iterable[Residency]) -> Server:
        """Add a server with what its tiers hold.

        Raises:
            UsageError: The tiers cannot hold that, or the id is taken.
        """
        if spec.id in self.servers:
            raise UsageError(f"a server {spec.id} is in the cluster already")
        server = Server(
            spec,
            self._num_joined,
            sequential_loading=self._sequential_loading,
            reclaims_idle=self._reclaims_idle,
        )
        for found in resident:
            if found.tier not in server.caches:
                raise UsageError(f"{found.model} cannot be resident in {found.tier.name}")
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
        server.draining = True
        self._index_availability(server)

    def remove_server(self, server: Server) -> None:
        """Forget a server, its instances and what it held."""
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

    # Tickets.

    def open_request(self, request_state: RequestState) -> None:
        """A request has come."""
        self.request_states[request_state.request.id] = request_state
        if self.watcher is not None:
            self.watcher.opened(request_state.request.model)

    def close_request(self, request_id: str) -> None:
        """It has ended."""
        request_state = self.request_states.pop(request_id)
        if self.watcher is not None:
            self.watcher.closed(request_state.request.model)

    # Instances.

    def add_instance(self, instance: Instance, waits_for: Iterable[Instance]) -> None:
        """Make an instance the occupant of its GPUs, or the next one where others must leave."""
        server = self.servers[instance.server_id]
        for other in waits_for:
            instance.waits_for[other.id] = None
        for index in instance.gpu_indices:
            occupant = server.occupants[index]
            if server.next_occupants[index] is not None:
                raise ControlError(f"GPU {index} of {server.id} is claimed already")
            if occupant is None:
                server.occupants[index] = instance
                server.num_free -= 1
            elif occupant.id in instance.waits_for:
                server.next_occupants[index] = instance
            else:
                raise ControlError(f"GPU {index} of {server.id} is held by {occupant.id}")
        self.instances[instance.id] = server.instances[instance.id] = instance
        for helper_id in instance.helpers:
            self.servers[helper_id].helped[instance.id] = instance
        self._index_availability(server)

    def remove_instance(self, instance: Instance) -> list[Instance]:
        """Take an instance off its GPUs; return those that now have all they claimed."""
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
        instance.state = state
        self._index_open(instance)

    def set_leaving(self, instance: Instance, leaving: bool) -> None:
        instance.leaving = leaving or instance.retired
        self._index_open(instance)

    def bind(self, request_id: str, instance: Instance) -> None:
        """Give a request one of the instance's slots."""
        if instance.free_slots <= 0:
            raise ControlError(f"{instance.id} has no free slot for {request_id}")
        if instance.idle_since_s is not None:
            self._end_idle(instance)
        instance.requests[request_id] = None
        self._index_open(instance)

    def unbind(self, request_id: str, instance: Instance) -> None:
        del instance.requests[request_id]
        self._index_open(instance)

    def reserve_slot(self, move_id: str, instance: Instance) -> None:
        """Keep one of the instance's slots for an inference that is to move in."""
        if instance.free_slots <= 0:
            raise ControlError(f"{instance.id} has no free slot for {move_id}")
        if instance.idle_since_s is not None:
            self._end_idle(instance)
        instance.incoming[move_id] = None
        self._index_open(instance)

    def fill_reserved_slot(self, move_id: str, request_id: str, instance: Instance) -> None:
        """The inference has moved in and takes the slot kept for it."""
        del instance.incoming[move_id]
        instance.requests[request_id] = None

    def release_slot(self, move_id: str, instance: Instance) -> None:
        """It will not move in: the slot is free again."""
        del instance.incoming[move_id]
        self._index_open(instance)

    def set_idle(self, instance: Instance, now_s: float) -> None:
        """The instance is ready and nobody needs it: its GPUs may be given to others."""
        server = self.servers[instance.server_id]
        instance.idle_since_s = now_s
        server.idle[instance.id] = instance
        server.num_idle += instance.num_gpus
        self._index_availability(server)

    # Tiers.

    def fill(self, server: Server, tier: StorageTier, model: str) -> None:
        """The bytes that a tier had promised room for have arrived."""
        server.caches[tier].fill(model)
        self._index_holder(server, tier, model)

    def evict(self, server: Server, tier: StorageTier, model: str, keep_bytes: int) -> None:
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
        """Check every index and count against the state itself.

        Raises:
            ControlError: One of them is wrong.
        """
        for server in self.servers.values():
            _audit_server(server, self._by_available[server.num_available])
            for tier, cache in server.caches.items():
                for model in self.checkpoints:
                    held = server.id in self._holders[tier].get(model, _NO_SERVERS)
                    if held != bool(cache.resident_bytes(model)):
                        raise ControlError(f"holders of {model} in {tier.name} are wrong")
        for instance in self.instances.values():
            listed = instance.id in self._open.get(instance.model, _NO_INSTANCES)
            is_open = instance.free_slots > 0 and instance.state is not RESERVED
            if listed != is_open:
                raise ControlError(f"{instance.id}: open is {is_open}, indexed as {listed}")


def _audit_server(server: Server, bucket: IndexedSet) -> None:
    pairs = list(zip(server.occupants, server.next_occupants, strict=True))
    num_free = sum(occupant is None and next_occupant is None for occupant, next_occupant in pairs)
    num_idle = sum(occupant is not None and occupant.idle for occupant, _ in pairs)
    if (num_free, num_idle) != (server.num_free, server.num_idle):
        raise ControlError(f"{server.id} counts {server.num_free} free, {server.num_idle} idle")
    if server.id not in bucket:
        raise ControlError(f"{server.id} is not indexed under {server.num_available} GPUs")
    for cache in server.caches.values():
        if not 0 <= cache.used_bytes <= cache.capacity_bytes:
            raise ControlError(f"{server.id} holds {cache.used_bytes} of {cache.capacity_bytes}")
