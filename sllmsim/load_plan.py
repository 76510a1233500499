"""Plans of loads: the bytes from each tier, the links they cross, and the limits of the loader."""

from collections.abc import Collection
from dataclasses import dataclass

from sllmcore.types import DRAM, REMOTE, SSD, Checkpoint, StorageTier
from sllmsim.links import Hop, Link
from sllmsim.server import SimServer
from sllmsim.setup import LoaderProfile


@dataclass(frozen=True, slots=True)
class LoadPart:
    """Bytes of one load that cross the same links."""

    num_bytes: int
    hops: tuple[Hop, ...]
    limit_bytes_per_s: float


@dataclass(frozen=True, slots=True)
class SimLoadPlan:
    """The transfers of a load, in stages: those of a stage run concurrently.

    Args:
        source: The farthest tier that bytes come from; `source_bytes` come from there.
        rest: Bytes that a split load fetches after its parts, to the first part; else None.
    """

    source: StorageTier
    source_bytes: int
    stages: tuple[tuple[LoadPart, ...], ...]
    rest: LoadPart | None = None


class SimLoadPlans:
    """A planner for one kind of loader.

    Args:
        storage: The link of the remote storage service; None: no limit.
    """

    def __init__(self, loader: LoaderProfile, storage: Link | None) -> None:
        self._loader = loader
        self._storage = storage

    def plan(
        self,
        checkpoint: Checkpoint,
        server: SimServer,
        gpu_indices: tuple[int, ...],
        filling: Collection[StorageTier],
        helpers: tuple[SimServer, ...],
    ) -> SimLoadPlan:
        """Plan a load.

        Bytes in several tiers come from all of them at once. A load with helpers is split if no
        byte of it is in a tier.

        Args:
            filling: Tiers that are to keep the bytes.
        """
        loader, hardware = self._loader, server.hardware
        model, size_bytes = checkpoint.model, checkpoint.size_bytes
        from_dram = min(size_bytes, server.tiers.held_bytes(DRAM, model))
        from_ssd = min(size_bytes - from_dram, server.tiers.held_bytes(SSD, model))
        from_remote = size_bytes - from_dram - from_ssd
        to_gpus = server.to_gpus(gpu_indices)
        dram_limit = loader.dram_efficiency * len(gpu_indices) * hardware.pcie_bytes_per_s
        if from_dram == size_bytes:
            return SimLoadPlan(DRAM, from_dram, ((LoadPart(from_dram, to_gpus, dram_limit),),))
        ssd_limit = min(dram_limit, loader.ssd_efficiency * hardware.ssd_read_bytes_per_s)
        read = (Hop(server.ssd_read), *to_gpus)
        if not from_remote and not from_dram:
            return SimLoadPlan(SSD, from_ssd, ((LoadPart(from_ssd, read, ssd_limit),),))
        nic_limit = loader.remote_efficiency * hardware.nic_bytes_per_s
        fetch = self._fetch_hops(server, filling)
        if helpers and from_remote == size_bytes and loader.pipelined:
            return self._split(
                LoadPart(size_bytes, (*fetch, *to_gpus), min(nic_limit, dram_limit)), helpers
            )
        source, source_bytes = (REMOTE, from_remote) if from_remote else (SSD, from_ssd)
        stages: list[tuple[LoadPart, ...]] = []
        if from_remote and not loader.pipelined:
            stages.append((LoadPart(from_remote, fetch, nic_limit),))
            from_ssd, from_remote = from_ssd + from_remote, 0
        last = (
            LoadPart(from_dram, to_gpus, dram_limit),
            LoadPart(from_ssd, read, ssd_limit),
            LoadPart(from_remote, (*fetch, *to_gpus), min(nic_limit, dram_limit)),
        )
        stages.append(tuple(part for part in last if part.num_bytes))
        return SimLoadPlan(source, source_bytes, tuple(stages))

    def _split(self, whole: LoadPart, helpers: tuple[SimServer, ...]) -> SimLoadPlan:
        """Return a plan of equal parts, each limited by the network of its server.

        The links into a helper's GPUs are left out: they are far faster than its network.
        """
        share = -(-whole.num_bytes // (1 + len(helpers)))
        parts = [LoadPart(share, whole.hops, whole.limit_bytes_per_s)]
        left_bytes = whole.num_bytes - share
        for helper in helpers:
            limit = self._loader.remote_efficiency * helper.hardware.nic_bytes_per_s
            parts.append(
                LoadPart(min(share, left_bytes), (*self._to_storage(), Hop(helper.nic)), limit)
            )
            left_bytes -= parts[-1].num_bytes
        rest = LoadPart(whole.num_bytes - share, whole.hops, whole.limit_bytes_per_s)
        stage = tuple(part for part in parts if part.num_bytes)
        return SimLoadPlan(REMOTE, share, (stage,), rest)

    def _fetch_hops(self, server: SimServer, filling: Collection[StorageTier]) -> tuple[Hop, ...]:
        """Return the links from remote storage into the server, and onto its SSD if `filling`."""
        on_ssd = SSD in filling or not self._loader.pipelined
        write = (Hop(server.ssd_write),) if on_ssd else ()
        return (*self._to_storage(), Hop(server.nic), *write)

    def _to_storage(self) -> tuple[Hop, ...]:
        return () if self._storage is None else (Hop(self._storage),)
