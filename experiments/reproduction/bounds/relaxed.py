"""The same cluster with every model in every DRAM, and with no cache at all.

Simulated under a policy they say what caching can still win for it, and what it has won: the
ceiling of infinite DRAM, and the floor where each cold start comes from remote storage.
"""

from dataclasses import replace

from sllmcore.build import PolicySettings
from sllmcore.types import DRAM, SSD, Residency
from sllmsim.setup import SimServerSetup, SimSetup


def infinite_dram(setup: SimSetup) -> SimSetup:
    """Every model lies in the DRAM of every server from the start, and stays."""
    sizes = {model.checkpoint.model: model.checkpoint.size_bytes for model in setup.models}
    resident = tuple(Residency(DRAM, name, num_bytes) for name, num_bytes in sizes.items())

    def with_room(server: SimServerSetup) -> SimServerSetup:
        hardware = replace(server.hardware, dram_pool_bytes=sum(sizes.values()))
        on_ssd = tuple(found for found in server.resident if found.tier is SSD)
        return replace(server, hardware=hardware, resident=resident + on_ssd)

    return replace(setup, servers=tuple(with_room(server) for server in setup.servers))


def all_remote(setup: SimSetup) -> SimSetup:
    """Servers that keep nothing: see `uncached` for the policy that goes with it."""

    def bare(server: SimServerSetup) -> SimServerSetup:
        hardware = replace(server.hardware, dram_pool_bytes=0, ssd_bytes=0)
        return replace(server, hardware=hardware, resident=())

    return replace(setup, servers=tuple(bare(server) for server in setup.servers))


def uncached(policy: PolicySettings) -> PolicySettings:
    """The policy without leaving copies behind."""
    return replace(policy, residency=replace(policy.residency, caches_dram=False, caches_ssd=False))
