"""The cluster: groups of equal servers, all with the same kind of GPU."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from sllmcore.errors import UsageError
from sllmsim.catalog import GpuSpec, gpu_named
from sllmsim.setup import ServerHardware


@dataclass(frozen=True, slots=True)
class ServerGroup:
    """Equal servers. Bandwidths are usable ones, in one direction.

    Args:
        gpu: Id in the GPU table, such as "a40".
        dram_pool_bytes: The pinned pool that caches checkpoints, not the whole memory.
        pcie_bytes_per_s: Bandwidth of one GPU's link; None: the value of the GPU table.
        gpus_per_uplink: GPUs that share one PCIe uplink of that same bandwidth.
    """

    count: int
    gpu: str
    num_gpus: int
    dram_pool_bytes: int
    ssd_bytes: int
    ssd_read_bytes_per_s: float
    ssd_write_bytes_per_s: float
    nic_bytes_per_s: float
    pcie_bytes_per_s: float | None = None
    gpus_per_uplink: int = 1

    def __post_init__(self) -> None:
        gpu_named(self.gpu)  # refuses an unknown id
        for name in ("count", "num_gpus"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, got {getattr(self, name)}")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("_bytes_per_s") and value is not None and not value > 0:
                raise UsageError(f"{field.name} must be positive, got {value}")
            if field.name.endswith("_bytes") and value < 0:
                raise UsageError(f"{field.name} must not be negative, got {value}")

    def hardware(self) -> ServerHardware:
        """Return one server of the group for the simulator."""
        gpu = gpu_named(self.gpu)
        pcie_bytes_per_s = self.pcie_bytes_per_s
        return ServerHardware(
            gpu=gpu,
            num_gpus=self.num_gpus,
            dram_pool_bytes=self.dram_pool_bytes,
            ssd_bytes=self.ssd_bytes,
            ssd_read_bytes_per_s=self.ssd_read_bytes_per_s,
            ssd_write_bytes_per_s=self.ssd_write_bytes_per_s,
            nic_bytes_per_s=self.nic_bytes_per_s,
            pcie_bytes_per_s=gpu.pcie_bytes_per_s if pcie_bytes_per_s is None else pcie_bytes_per_s,
            gpus_per_uplink=self.gpus_per_uplink,
        )


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """Groups of servers by name; the servers of group `a` are named a-0, a-1, ..."""

    servers: Mapping[str, ServerGroup]

    def __post_init__(self) -> None:
        if not self.servers:
            raise UsageError("a cluster needs at least one group of servers")
        gpus = sorted({group.gpu for group in self.servers.values()})
        if len(gpus) > 1:
            raise UsageError(
                f"a cluster has one kind of GPU, because a model has one speed; got {gpus}"
            )

    @property
    def gpu(self) -> GpuSpec:
        """The kind of all GPUs."""
        return gpu_named(next(iter(self.servers.values())).gpu)

    @property
    def max_gpus_per_server(self) -> int:
        """The number of GPUs of the largest server."""
        return max(group.num_gpus for group in self.servers.values())
