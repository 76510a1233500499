"""Which models are deployed, and servers and models that leave in good order."""

from sllmcore.cluster.instance import Instance
from sllmcore.cluster.state import ClusterState
from sllmcore.controller.launcher import Launcher
from sllmcore.errors import UsageError
from sllmcore.types import Checkpoint


class Membership:
    """Deployments and departures. Arrivals of servers are `ClusterState.join`."""

    def __init__(self, cluster: ClusterState, launcher: Launcher) -> None:
        self._cluster = cluster
        self._launcher = launcher
        self._deployed: set[str] = set()

    def serves(self, model: str) -> bool:
        return model in self._deployed

    def deploy(self, checkpoint: Checkpoint, num_slots: int) -> None:
        """Requests for this model may come.

        Raises:
            UsageError: Servers still hold an earlier model of that name which was another one.
        """
        model = checkpoint.model
        if num_slots < 1:
            raise UsageError(f"num_slots of {model} must be >= 1, got {num_slots}")
        known = self._cluster.checkpoints.get(model)
        if known is not None and known != checkpoint:
            raise UsageError(f"{model} was deployed as {known} and cannot become {checkpoint}")
        self._cluster.checkpoints[model] = checkpoint
        self._cluster.num_slots[model] = num_slots
        self._deployed.add(model)

    def delete(self, model: str, now_s: float) -> None:
        """Stop serving a model: its instances go when they have finished, its copies at once."""
        self._deployed.discard(model)
        instances = [i for i in self._cluster.instances.values() if i.model == model]
        for instance in instances:
            self._retire(instance, now_s)
        for server in self._cluster.servers.values():
            for tier, cache in server.caches.items():
                if model in list(cache.evictable()):
                    self._launcher.evict(server, tier, model)

    def drain(self, server_id: str, now_s: float) -> None:
        """Nothing new starts on a server; what runs there finishes."""
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
