"""What must be true of a controller once every request has ended: nothing is held for anybody."""

from sllmcore.cluster.state import ClusterState
from sllmcore.controller import Controller
from sllmcore.types import CACHE_TIERS
from tests.laws.observer import Observer


def check_at_rest(controller: Controller, observer: Observer) -> None:
    """Nothing pinned, promised, bound, claimed, moving or waiting; and the belief about GPUs and
    tiers is what an observer has seen."""
    cluster = controller.cluster
    assert isinstance(cluster, ClusterState)
    assert controller.num_waiting == 0
    assert cluster.request_states == {}
    assert set(cluster.instances) == set(observer.instances)
    for instance in cluster.instances.values():
        assert instance.idle, f"{instance.id} is neither idle nor gone"
        assert not (instance.requests or instance.incoming or instance.waits_for), instance.id
    assert set(cluster.servers) == set(observer.servers)
    for server in cluster.servers.values():
        assert not any(server.next_occupants)
        assert all(tenant is None or tenant.idle for tenant in server.occupants)
        assert [t and t.id for t in server.occupants] == [
            t and t.id for t in observer.servers[server.id].occupants
        ]
        for tier in CACHE_TIERS:
            cache, held = server.caches[tier], observer.servers[server.id].held[tier]
            assert {model: cache.resident_bytes(model) for model in held} == held
            assert cache.used_bytes == sum(held.values()), "room is promised for ever"
            assert set(cache.evictable()) == set(held), "something stays pinned"
            assert server.queue_wait_s(tier, observer.now_s) == 0.0
