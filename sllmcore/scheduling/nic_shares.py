"""What a server's network can still take: processor sharing with deadlines (HydraServe).

With k fetches under way, one more gets B / (k + 1), if all those that have a deadline still meet it
at that rate; otherwise it gets nothing. A fetch is a load from remote storage or a part of one. How
much of it is left is believed from when it is expected to be over; the deadline is that of the
oldest request that waits for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sllmcore.protocols import ClusterView, InstanceView, ServerView
from sllmcore.types import CACHE_TIERS


@dataclass(frozen=True, slots=True)
class Fetch:
    """One transfer over a server's network, as believed."""

    left_bytes: float
    deadline_at_s: float | None


def available_bytes_per_s(server: ServerView, fetches: Sequence[Fetch], now_s: float) -> float:
    """The share of the network that a further fetch would have; 0.0: it is not to begin."""
    share = server.spec.remote_bytes_per_s / (len(fetches) + 1)
    for fetch in fetches:
        deadline_at_s = fetch.deadline_at_s
        if deadline_at_s is not None and now_s + fetch.left_bytes / share > deadline_at_s:
            return 0.0
    return share


def fetches_on(
    server: ServerView, cluster: ClusterView, now_s: float, ttft_slo_s: float
) -> list[Fetch]:
    """Those under way over a server's network. What only joins its first part gives way."""
    full_bytes_per_s = server.spec.remote_bytes_per_s
    found = []
    for instance in (*server.instances.values(), *server.helped.values()):
        if not instance.ready and _from_remote(instance, server):
            left = max(0.0, instance.ready_at_s - now_s) * full_bytes_per_s
            deadline_at_s = _deadline_at_s(instance, cluster, ttft_slo_s)
            found.append(Fetch(min(part_bytes(instance, cluster), left), deadline_at_s))
    return found


def part_bytes(instance: InstanceView, cluster: ClusterView) -> float:
    """Of what each server fetches of a split load; of an ordinary one, all."""
    return cluster.checkpoints[instance.model].size_bytes / (1 + len(instance.helpers))


def consolidation_bytes(instance: InstanceView, cluster: ClusterView, now_s: float) -> float:
    """Of a split load, those still on their way to the first part, had it the network alone."""
    if not instance.helpers or not instance.ready:
        return 0.0
    rest = len(instance.helpers) * part_bytes(instance, cluster)
    server = cluster.servers[instance.server_id]
    return max(0.0, rest - (now_s - instance.ready_at_s) * server.spec.remote_bytes_per_s)


def _from_remote(instance: InstanceView, server: ServerView) -> bool:
    """Whether the bytes of an instance that is not ready cross the network."""
    if instance.server_id != server.id:
        return True
    return not any(server.resident_bytes(tier, instance.model) for tier in CACHE_TIERS)


def _deadline_at_s(instance: InstanceView, cluster: ClusterView, ttft_slo_s: float) -> float | None:
    arrived = [cluster.request_states[r].request.arrived_at_s for r in instance.requests]
    return min(arrived) + ttft_slo_s if arrived else None
