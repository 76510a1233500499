"""The plan of a real cluster, made from a run's config.

All that simulation and real cluster share comes from the simulator's setup, so they stay alike.
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
    """A server, and the models in its tiers when it joins."""

    spec: ServerSpec
    resident: tuple[Residency, ...] = ()

    @property
    def bytes_per_s(self) -> dict[str, float]:
        """Declared bandwidth of a load onto one GPU, by the name of its source tier."""
        return {tier.name: declared_bytes_per_s(self.spec, tier, 1) for tier in (REMOTE, SSD, DRAM)}


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """A cluster to set up.

    Args:
        servers: The servers in the order in which they join.
        storage: `paced`: emulated tiers without bytes; `tiers`: files and memory.
        placement: Processes, or threads of this process.
        policy: The controller's policy.
        seed: Seed of the policy's random choices.
    """

    servers: tuple[PlannedServer, ...]
    storage: Literal["paced", "tiers"]
    placement: Literal["children", "in_process"]
    policy: PolicySettings
    seed: int


def planned_cluster(config: RunConfig, settings: RealSettings) -> ClusterPlan:
    """Return the plan of a config's cluster."""
    setup = sim_setup(config)
    largest_bytes = max(model.checkpoint.size_bytes for model in setup.models)
    servers = []
    for server in setup.servers:
        spec = server.hardware.spec(server.id)
        if settings.engine_kind.needs_weights:  # its GPUs are slots in this machine's memory
            spec = replace(spec, gpu_memory_bytes=largest_bytes)
        servers.append(PlannedServer(spec, server.resident))
    return ClusterPlan(
        servers=tuple(servers),
        storage="tiers" if settings.engine_kind.needs_weights else "paced",
        placement=settings.placement,
        policy=policy_settings(config, setup),
        seed=config.seed,
    )
