"""A cluster with every model in every DRAM, and a cluster without caches.

Simulated under a policy, they limit the effect of caching: infinite DRAM is the best case, and cold
starts from remote storage only are the worst.
"""

from dataclasses import replace

from sllmcore.build import PolicySettings
from sllmcore.types import DRAM, SSD, Residency
from sllmsim.setup import SimServerSetup, SimSetup


def infinite_dram(setup: SimSetup) -> SimSetup:
    """Return a setup with every model in the DRAM of every server, from start to end."""
    sizes = {model.checkpoint.model: model.checkpoint.size_bytes for model in setup.models}
    resident = tuple(Residency(DRAM, name, num_bytes) for name, num_bytes in sizes.items())

    def with_room(server: SimServerSetup) -> SimServerSetup:
        hardware = replace(server.hardware, dram_pool_bytes=sum(sizes.values()))
        on_ssd = tuple(found for found in server.resident if found.tier is SSD)
        return replace(server, hardware=hardware, resident=resident + on_ssd)

    return replace(setup, servers=tuple(with_room(server) for server in setup.servers))


def all_remote(setup: SimSetup) -> SimSetup:
    """Return a setup without caches, to be simulated under an `uncached` policy."""

    def bare(server: SimServerSetup) -> SimServerSetup:
        hardware = replace(server.hardware, dram_pool_bytes=0, ssd_bytes=0)
        return replace(server, hardware=hardware, resident=())

    return replace(setup, servers=tuple(bare(server) for server in setup.servers))


def uncached(policy: PolicySettings) -> PolicySettings:
    """Return a policy that leaves no copies in DRAM or on SSD."""
    return replace(policy, residency=replace(policy.residency, caches_dram=False, caches_ssd=False))
