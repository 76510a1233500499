"""The search for the soonest launch of a model, among its holders and a few other servers."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from sllmcore.errors import UsageError
from sllmcore.protocols import ClusterView, InstanceView, LoadingTimeEstimator, ServerView
from sllmcore.types import CACHE_TIERS, Checkpoint, LoadEstimate, Placement

NOTHING_TAKEN: Mapping[str, tuple[int, ...]] = {}  # GPU indices by server id


def ready_instance(instances: Iterable[InstanceView]) -> InstanceView | None:
    """Return the ready instance with the fewest requests; None if none is ready."""
    ready = [instance for instance in instances if instance.ready]
    return min(ready, key=lambda instance: len(instance.requests)) if ready else None


def open_instance(instances: Iterable[InstanceView]) -> InstanceView | None:
    """Return a ready instance, else the one that will be ready first; None if there is none."""
    return ready_instance(instances) or soonest_instance(instances)


def soonest_instance(instances: Iterable[InstanceView]) -> InstanceView | None:
    """Return the instance that will be ready first; None if there is none."""
    return min(instances, key=lambda instance: instance.ready_at_s, default=None)


class LaunchSearch:
    """Finds the launch with the least expected startup time.

    At most `max_candidates` servers are considered per tier, so that the search is exhaustive in
    clusters up to that size. It ends at the nearest tier in which some holder can begin to load at
    once.

    Args:
        max_candidates: Number of servers considered per tier.

    Raises:
        UsageError: `max_candidates` is less than 1.
    """

    def __init__(self, estimator: LoadingTimeEstimator, max_candidates: int = 8) -> None:
        if max_candidates < 1:
            raise UsageError(f"max_candidates must be >= 1, got {max_candidates}")
        self.estimator = estimator
        self.max_candidates = max_candidates

    def best(
        self,
        checkpoint: Checkpoint,
        cluster: ClusterView,
        now_s: float,
        excluded_server_id: str | None = None,
        taken: Mapping[str, tuple[int, ...]] = NOTHING_TAKEN,
    ) -> Placement | None:
        """Return the soonest launch; None if no candidate has the GPUs.

        The server `excluded_server_id` and the GPUs `taken` (indices by server id) are not used.
        Ties: fewest GPUs of idle instances, then the server that joined first.
        """
        best: tuple[float, int, int] | None = None
        found: tuple[ServerView, LoadEstimate] | None = None
        num_gpus = checkpoint.num_gpus
        for servers in self._candidates(checkpoint, cluster):
            for server in servers:
                num_taken = len(taken.get(server.id, ())) if taken else 0
                short = server.num_available < num_gpus + num_taken
                if short or server.id == excluded_server_id or not server.could_hold(checkpoint):
                    continue
                load = self.estimator.estimate(checkpoint, server, now_s)
                reclaimed = max(0, num_gpus + num_taken - server.num_free)
                key = (load.total_s, reclaimed, server.join_index)
                if best is None or key < best:
                    best, found = key, (server, load)
            if found is not None and found[1].queue_s <= 0:
                break
        return None if found is None else _place(checkpoint, *found, taken)

    def _candidates(
        self, checkpoint: Checkpoint, cluster: ClusterView
    ) -> Iterator[Sequence[ServerView]]:
        """Yield holders in DRAM, then on SSD, then servers with enough available GPUs."""
        for tier in CACHE_TIERS:
            yield cluster.holders(tier, checkpoint.model, self.max_candidates)
        yield cluster.servers_with(checkpoint.num_gpus, self.max_candidates)


def _place(
    checkpoint: Checkpoint,
    server: ServerView,
    load: LoadEstimate,
    taken: Mapping[str, tuple[int, ...]],
) -> Placement:
    gone = taken.get(server.id, ())
    gpus = server.pick_gpus(server.num_available if gone else checkpoint.num_gpus)
    assert gpus is not None, f"{server.id} has {checkpoint.num_gpus} available GPUs"
    left = tuple(index for index in gpus if index not in gone)
    return Placement(server.id, left[: checkpoint.num_gpus], load)
