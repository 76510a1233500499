"""Membership: the deployed models, and the orderly departure of models and servers."""

from sllmcore.cluster.instance import Instance
from sllmcore.cluster.state import ClusterState
from sllmcore.controller.launcher import Launcher
from sllmcore.errors import UsageError
from sllmcore.types import Checkpoint


class Membership:
    """Deploys and deletes models and drains servers. `ClusterState.add_server` adds servers."""

    def __init__(self, cluster: ClusterState, launcher: Launcher) -> None:
        self._cluster = cluster
        self._launcher = launcher
        self._deployed: set[str] = set()

    def serves(self, model: str) -> bool:
        """Return True if `model` is deployed."""
        return model in self._deployed

    def deploy(self, checkpoint: Checkpoint, num_slots: int) -> None:
        """Deploy a model.

        Raises:
            UsageError: `num_slots` is less than 1, or another checkpoint had the same name.
        """
        model = checkpoint.model
        if num_slots < 1:
            raise UsageError(f"num_slots of {model} must be >= 1, got {num_slots}")
        known = self._cluster.checkpoints.get(model)
        if known is not None and known != checkpoint:
            raise UsageError(
                f"{model} was deployed as {known} and cannot become {checkpoint}: use a new name"
            )
        self._cluster.checkpoints[model] = checkpoint
        self._cluster.num_slots[model] = num_slots
        self._deployed.add(model)

    def delete(self, model: str, now_s: float) -> None:
        """Delete a model: evict its unused copies and stop its instances when they are idle."""
        self._deployed.discard(model)
        instances = [i for i in self._cluster.instances.values() if i.model == model]
        for instance in instances:
            self._retire(instance, now_s)
        for server in self._cluster.servers.values():
            for tier, cache in server.caches.items():
                if model in list(cache.evictable()):
                    self._launcher.evict(server, tier, model)

    def drain(self, server_id: str, now_s: float) -> None:
        """Start nothing more on a server; stop its instances when they are idle."""
        server = self._cluster.servers.get(server_id)
        if server is None:
            return
        self._cluster.set_draining(server)
        for instance in list(server.instances.values()):
            self._retire(instance, now_s)

    def _retire(self, instance: Instance, now_s: float) -> None:
        if instance.idle:
            self._launcher.stop(instance, now_s)
        else:
            instance.retired = True
            self._cluster.set_leaving(instance, True)
