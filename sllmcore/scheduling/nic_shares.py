"""Available bandwidth of a server's network: processor sharing with deadlines (HydraServe).

A fetch is a load from remote storage or a part of one. With k fetches in progress on a network of
bandwidth B, one more gets B / (k + 1) if all fetches with a deadline still meet it at that rate;
otherwise it gets 0. The bytes left of a fetch are estimated from its expected end. Its deadline is
that of the oldest request that waits for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sllmcore.protocols import ClusterView, InstanceView, ServerView
from sllmcore.types import CACHE_TIERS


@dataclass(frozen=True, slots=True)
class Fetch:
    """A transfer over a server's network, with its estimated remaining bytes."""

    left_bytes: float
    deadline_at_s: float | None


def available_bytes_per_s(server: ServerView, fetches: Sequence[Fetch], now_s: float) -> float:
    """Return the bandwidth for one more fetch; 0.0 if it would break a deadline."""
    share = server.spec.remote_bytes_per_s / (len(fetches) + 1)
    for fetch in fetches:
        deadline_at_s = fetch.deadline_at_s
        if deadline_at_s is not None and now_s + fetch.left_bytes / share > deadline_at_s:
            return 0.0
    return share


def fetches_on(
    server: ServerView, cluster: ClusterView, now_s: float, ttft_slo_s: float
) -> list[Fetch]:
    """Return the fetches in progress on this server's network.

    A split load that already serves is excluded: its remaining consolidation traffic yields to
    fetches.
    """
    full_bytes_per_s = server.spec.remote_bytes_per_s
    found = []
    for instance in (*server.instances.values(), *server.helped.values()):
        if not instance.ready and _from_remote(instance, server):
            left = max(0.0, instance.ready_at_s - now_s) * full_bytes_per_s
            deadline_at_s = _deadline_at_s(instance, cluster, ttft_slo_s)
            found.append(Fetch(min(part_bytes(instance, cluster), left), deadline_at_s))
    return found


def part_bytes(instance: InstanceView, cluster: ClusterView) -> float:
    """Return the bytes that one server fetches: size / number of parts; the size if not split."""
    return cluster.checkpoints[instance.model].size_bytes / (1 + len(instance.helpers))


def consolidation_bytes(instance: InstanceView, cluster: ClusterView, now_s: float) -> float:
    """Return the bytes of a split load that must still reach its main server.

    Optimistic: the consolidation is assumed to have the network alone. 0 before the load finished.
    """
    if not instance.helpers or not instance.ready:
        return 0.0
    rest = len(instance.helpers) * part_bytes(instance, cluster)
    server = cluster.servers[instance.server_id]
    return max(0.0, rest - (now_s - instance.ready_at_s) * server.spec.remote_bytes_per_s)


def _from_remote(instance: InstanceView, server: ServerView) -> bool:
    """Return True if the load of an instance that is not ready uses the server's network."""
    if instance.server_id != server.id:
        return True
    return not any(server.resident_bytes(tier, instance.model) for tier in CACHE_TIERS)


def _deadline_at_s(instance: InstanceView, cluster: ClusterView, ttft_slo_s: float) -> float | None:
    arrived = [cluster.request_states[r].request.arrived_at_s for r in instance.requests]
    return min(arrived) + ttft_slo_s if arrived else None
