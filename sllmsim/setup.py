"""The ground truth of a simulation: hardware, models, migrations. No policy can read it."""

from dataclasses import dataclass, field
from typing import Literal

from sllmcore.errors import UsageError
from sllmcore.migration_rounds import RoundSettings
from sllmcore.types import Checkpoint, Residency, ServerSpec
from sllmsim.catalog import GpuSpec
from sllmsim.faults import Fault
from sllmsim.phases import PhaseModel
from sllmsim.timing import InferenceTiming

_ROUNDS = RoundSettings()


@dataclass(frozen=True, slots=True)
class ServerHardware:
    """The hardware of a server. Bandwidths are usable ones, in one direction.

    Args:
        dram_pool_bytes: Size of the pinned pool that caches checkpoints, not of the whole memory.
        nic_bytes_per_s: In each direction.
        pcie_bytes_per_s: Bandwidth of one GPU's link.
        gpus_per_uplink: GPUs that share one PCIe uplink of that bandwidth; 1: no shared uplink.
    """

    gpu: GpuSpec
    num_gpus: int
    dram_pool_bytes: int
    ssd_bytes: int
    ssd_read_bytes_per_s: float
    ssd_write_bytes_per_s: float
    nic_bytes_per_s: float
    pcie_bytes_per_s: float
    gpus_per_uplink: int = 1

    def __post_init__(self) -> None:
        if self.gpus_per_uplink < 1:
            raise UsageError(f"gpus_per_uplink must be >= 1, got {self.gpus_per_uplink}")

    def spec(self, server_id: str) -> ServerSpec:
        """Return the declaration with which the server's worker joins."""
        return ServerSpec(
            id=server_id,
            num_gpus=self.num_gpus,
            gpu_memory_bytes=self.gpu.memory_bytes,
            dram_bytes=self.dram_pool_bytes,
            ssd_bytes=self.ssd_bytes,
            remote_bytes_per_s=self.nic_bytes_per_s,
            ssd_bytes_per_s=self.ssd_read_bytes_per_s,
            dram_bytes_per_s=self.pcie_bytes_per_s,
        )


@dataclass(frozen=True, slots=True)
class SimServerSetup:
    """A server and what its tiers hold at the start."""

    id: str
    hardware: ServerHardware
    resident: tuple[Residency, ...] = ()


@dataclass(frozen=True, slots=True)
class SimModel:
    """A deployed model: its checkpoint, its speed on the GPUs of this cluster, its slots.

    Args:
        kv_bytes_per_token: Size of one token in the KV cache; 0: unknown, so it cannot be copied.
    """

    checkpoint: Checkpoint
    timing: InferenceTiming
    num_slots: int = 1
    kv_bytes_per_token: int = 0


@dataclass(frozen=True, slots=True)
class LoaderProfile:
    """The speed of a checkpoint loader, as a share of each link's bandwidth.

    Args:
        pipelined: All tiers work at once; otherwise a download is first written to SSD completely
            and then read from there.
    """

    name: str = "serverlessllm"
    remote_efficiency: float = 1.0
    ssd_efficiency: float = 1.0
    dram_efficiency: float = 1.0
    pipelined: bool = True

    def __post_init__(self) -> None:
        for name in ("remote_efficiency", "ssd_efficiency", "dram_efficiency"):
            if not 0 < getattr(self, name) <= 1:
                raise UsageError(f"{name} must be in (0, 1], got {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class MigrationSettings:
    """The live migrations of a simulation.

    Args:
        strategy: `replay`: the destination recomputes the KV cache from the tokens, as in the
            paper. `copy`: the cache is sent over the servers' network links. `auto`: a cost model
            that learns from the run chooses for each migration, as on a real cluster; it may
            combine both.
        message_s: Time of a message between two servers. Its size does not count: a token has 4
            bytes.
        stop_gap_tokens: `final_gap` of the rounds (`sllmcore.migration_rounds`).
        max_rounds: Most rounds while the source generates.
    """

    strategy: Literal["replay", "copy", "auto"] = "replay"
    message_s: float = 0.001
    stop_gap_tokens: int = _ROUNDS.final_gap
    max_rounds: int = _ROUNDS.max_rounds

    def __post_init__(self) -> None:
        if self.strategy not in ("replay", "copy", "auto"):
            raise UsageError(f"strategy must be replay, copy or auto, got {self.strategy!r}")
        if self.message_s < 0:
            raise UsageError(f"message_s must not be negative, got {self.message_s}")
        _ = self.rounds  # checks the other two

    @property
    def rounds(self) -> RoundSettings:
        """The rule of the rounds, as a real source has it."""
        return RoundSettings(final_gap=self.stop_gap_tokens, max_rounds=self.max_rounds)


@dataclass(frozen=True, slots=True)
class SimSetup:
    """The inputs of a simulation besides the policy and the workload.

    Args:
        storage_bytes_per_s: Bandwidth of the remote storage service for all servers together;
            None: no limit.
        recovers_tokens: After a crash of its server, a request continues from the tokens that its
            gateway has sent; otherwise it begins again.
        seed: Seed of the random part of the truth: the phases of cold starts.

    Raises:
        UsageError: There is no server or no model, a name is not unique, or a model fits on no
            server or cannot migrate as `migration` demands.
    """

    servers: tuple[SimServerSetup, ...]
    models: tuple[SimModel, ...]
    storage_bytes_per_s: float | None = None
    phases: PhaseModel = field(default_factory=lambda: PhaseModel("paper"))
    loader: LoaderProfile = field(default_factory=LoaderProfile)
    migration: MigrationSettings = field(default_factory=MigrationSettings)
    recovers_tokens: bool = True
    faults: tuple[Fault, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.servers or not self.models:
            raise UsageError("a cluster needs at least one server and one model")
        for names in ([s.id for s in self.servers], [m.checkpoint.model for m in self.models]):
            if len(set(names)) != len(names):
                raise UsageError(f"names must be unique, got {sorted(names)}")
        for model in self.models:
            self._check_fits(model.checkpoint)
            if self.migration.strategy == "copy" and model.kv_bytes_per_token <= 0:
                raise UsageError(
                    f"migrations cannot copy the KV cache of {model.checkpoint.model}: set its "
                    "kv_bytes_per_token, or strategy to replay or auto"
                )

    def _check_fits(self, checkpoint: Checkpoint) -> None:
        for server in self.servers:
            hardware = server.hardware
            enough = checkpoint.size_bytes <= checkpoint.num_gpus * hardware.gpu.memory_bytes
            if enough and checkpoint.num_gpus <= hardware.num_gpus:
                return
        raise UsageError(
            f"{checkpoint.model} fits on no server: {checkpoint.size_bytes} bytes on "
            f"{checkpoint.num_gpus} GPUs"
        )
