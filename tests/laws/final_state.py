"""The final state of a controller: when every request has ended, it reserves nothing."""

from sllmcore.cluster.state import ClusterState
from sllmcore.controller import Controller
from sllmcore.types import CACHE_TIERS
from tests.laws.observer import Observer


def check_final_state(controller: Controller, observer: Observer) -> None:
    """Check that nothing is pinned, reserved, bound, migrating or waiting.

    The state of GPUs and tiers must be the one that `observer` has recorded.
    """
    cluster = controller.cluster
    assert isinstance(cluster, ClusterState)
    assert controller.num_waiting == 0
    assert cluster.request_states == {}
    assert set(cluster.instances) == set(observer.instances)
    for instance in cluster.instances.values():
        assert instance.idle, f"{instance.id} is neither idle nor removed"
        assert not (instance.requests or instance.incoming or instance.waits_for), instance.id
    assert set(cluster.servers) == set(observer.servers)
    for server in cluster.servers.values():
        assert not any(server.next_occupants)
        assert all(occupant is None or occupant.idle for occupant in server.occupants)
        assert [each and each.id for each in server.occupants] == [
            each and each.id for each in observer.servers[server.id].occupants
        ]
        for tier in CACHE_TIERS:
            cache, held = server.caches[tier], observer.servers[server.id].held[tier]
            assert {model: cache.resident_bytes(model) for model in held} == held
            assert cache.used_bytes == sum(held.values()), "space stays reserved"
            assert set(cache.evictable()) == set(held), "a model stays pinned"
            assert server.queue_wait_s(tier, observer.now_s) == 0.0
