"""A run's config into a cluster to set up: servers and what they hold.

Everything that both worlds share comes from the simulator's setup, so that neither can drift.
"""

from dataclasses import dataclass, replace
from typing import Literal

from experiments.config.real import RealSettings
from experiments.config.run_config import RunConfig
from experiments.simulation.setup import policy_settings, sim_setup
from sllmcore.build import PolicySettings
from sllmcore.estimator import declared_bytes_per_s
from sllmcore.types import DRAM, REMOTE, SSD, Residency, ServerSpec


@dataclass(frozen=True, slots=True)
class PlannedServer:
    """A server, and what its tiers hold when it joins."""

    spec: ServerSpec
    resident: tuple[Residency, ...] = ()

    @property
    def bytes_per_s(self) -> dict[str, float]:
        """Declared, by the name of the tier that one GPU is loaded from."""
        return {tier.name: declared_bytes_per_s(self.spec, tier, 1) for tier in (REMOTE, SSD, DRAM)}


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """A cluster to set up.

    Args:
        servers: In the order in which they join.
        storage: `paced`: tiers without bytes; `tiers`: files and memory.
        seed: Of the policy's chance.
    """

    servers: tuple[PlannedServer, ...]
    storage: Literal["paced", "tiers"]
    placement: Literal["children", "in_process"]
    policy: PolicySettings
    seed: int


def planned_cluster(config: RunConfig, settings: RealSettings) -> ClusterPlan:
    """The cluster of a config."""
    setup = sim_setup(config)
    largest_bytes = max(model.checkpoint.size_bytes for model in setup.models)
    servers = []
    for server in setup.servers:
        spec = server.hardware.spec(server.id)
        if settings.engine_kind.needs_weights:  # its GPUs are slots in this machine's memory
            spec = replace(spec, gpu_memory_bytes=largest_bytes)
        servers.append(PlannedServer(spec, server.resident))
    return ClusterPlan(
        tuple(servers),
        "tiers" if settings.engine_kind.needs_weights else "paced",
        settings.placement,
        policy_settings(config, setup),
        config.seed,
    )
