"""Emulated loading in a Ray Serve replica: download to the disk, then PyTorch reads the file.

No bytes are moved: a load sleeps as long as they would take at the bandwidths of the config's
servers, times the loader's shares of them, as in the simulator's `policy=ray_serve`. Concurrent
loads of a node share its links.
"""

from dataclasses import dataclass
from pathlib import Path

from experiments.ray_serve.checkpoint_cache import CheckpointCache
from experiments.ray_serve.paced_link import PacedLink
from sllmcore.types import DRAM, REMOTE, SSD, StorageTier
from sllmsim.setup import LoaderProfile, ServerHardware


@dataclass(frozen=True, slots=True)
class Node:
    """The caches and links of a server.

    Args:
        cache_tiers: Tiers that keep downloaded checkpoints; may be empty.
        directory: Folder of the files that the node's replicas share.
    """

    server_id: str
    hardware: ServerHardware
    loader: LoaderProfile
    cache_tiers: tuple[StorageTier, ...]
    directory: Path

    def load(self, model: str, size_bytes: int, num_gpus: int) -> StorageTier:
        """Sleep as long as loading a model takes, and return the tier that it came from."""
        hardware, loader = self.hardware, self.loader
        to_gpus_bytes_per_s = loader.dram_efficiency * num_gpus * hardware.pcie_bytes_per_s
        source = self._source(model)
        if source is REMOTE:
            write_bytes_per_s = min(hardware.nic_bytes_per_s, hardware.ssd_write_bytes_per_s)
            nic = self._link("nic", hardware.nic_bytes_per_s)
            nic.move(size_bytes, min(loader.remote_efficiency * nic.bytes_per_s, write_bytes_per_s))
        if source is DRAM:
            bus = PacedLink(self.directory / f"link-gpus-{model}", to_gpus_bytes_per_s)
            bus.move(size_bytes, to_gpus_bytes_per_s)
        else:
            ssd = self._link("ssd", hardware.ssd_read_bytes_per_s)
            read_bytes_per_s = loader.ssd_efficiency * ssd.bytes_per_s
            ssd.move(size_bytes, min(read_bytes_per_s, to_gpus_bytes_per_s))
        for tier in self.cache_tiers:
            self._cache(tier).put(model, size_bytes)
        return source

    def _source(self, model: str) -> StorageTier:
        held = [
            tier
            for tier in (DRAM, SSD)
            if tier in self.cache_tiers and self._cache(tier).touch(model)
        ]
        return held[0] if held else REMOTE

    def _link(self, name: str, bytes_per_s: float) -> PacedLink:
        return PacedLink(self.directory / f"link-{name}", bytes_per_s)

    def _cache(self, tier: StorageTier) -> CheckpointCache:
        capacity = self.hardware.dram_pool_bytes if tier is DRAM else self.hardware.ssd_bytes
        return CheckpointCache(self.directory / f"cache-{tier.name.lower()}", capacity)
