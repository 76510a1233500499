"""The driver of a run: the simulator or a real cluster, and the truth besides the hardware."""

from dataclasses import dataclass, field, replace
from typing import Literal

from experiments.config.real import Measured, RealSettings
from sllmcore.errors import UsageError
from sllmsim.faults import FaultRates
from sllmsim.phases import (
    PRESETS,
    Duration,
    Order,
    PhaseKind,
    PhaseModel,
    PhaseSpec,
    duration_with_p99,
    preset_named,
)
from sllmsim.setup import LoaderProfile, MigrationSettings


@dataclass(frozen=True, slots=True)
class DriverConfig:
    """The behaviour of the cluster.

    Args:
        kind: `sim`, or `real`, which needs `real`.
        system: The system that kind real measures: this project's cluster, or Ray Serve itself.
            Kind sim simulates either, by the policy, the loader and the other settings.
        real: The real cluster that is run; with kind sim, the one that is predicted.
        phases: Preset of the cold-start phases that move no bytes (`sllmsim.phases.PRESETS`).
        loader: Share of each link's bandwidth that the checkpoint loader reaches.
        migration: Strategy, messages and rounds of live migrations.
        faults: Mean times between faults.
        fault_horizon_s: Faults strike before this instant; None: there are none.
        recovers_tokens: An inference whose server crashed goes on from the tokens already sent.
        storage_bytes_per_s: Bandwidth of the remote storage service for all servers together; None:
            no limit.
        profiled_migration: The policy knows each model's migration time from a profile taken
            before the run, as ServerlessLLM does; otherwise it starts from `policy.migration`.
        journal: Write the journal; a run without one is faster and cannot be replayed.
    """

    kind: Literal["sim", "real"] = "sim"
    system: Literal["sllm", "ray_serve"] = "sllm"
    real: RealSettings | None = None
    phases: str = "paper"
    loader: LoaderProfile = field(default_factory=LoaderProfile)
    migration: MigrationSettings = field(default_factory=MigrationSettings)
    faults: FaultRates = field(default_factory=FaultRates)
    fault_horizon_s: float | None = None
    recovers_tokens: bool = True
    storage_bytes_per_s: float | None = None
    profiled_migration: bool = True
    journal: bool = True

    def __post_init__(self) -> None:
        if self.kind == "real" and self.real is None:
            raise UsageError("kind real needs the settings of a real cluster: take driver=real")
        if self.phases not in PRESETS:
            raise UsageError(f"unknown phases {self.phases!r}, known are {', '.join(PRESETS)}")
        if self.fault_horizon_s is not None and self.fault_horizon_s < 0:
            raise UsageError(f"fault_horizon_s must not be negative, got {self.fault_horizon_s}")
        if self.storage_bytes_per_s is not None and self.storage_bytes_per_s <= 0:
            raise UsageError(
                f"storage_bytes_per_s must be positive, got {self.storage_bytes_per_s}"
            )

    @property
    def loader_profile(self) -> LoaderProfile:
        """The loader profile that the simulator uses: the configured or the measured one."""
        if self.real is None:
            return self.loader
        share, loader = self.real.calibration.load_share, self.loader
        return replace(
            loader,
            remote_efficiency=share * loader.remote_efficiency,
            ssd_efficiency=share * loader.ssd_efficiency,
            dram_efficiency=share * loader.dram_efficiency,
        )

    @property
    def phase_model(self) -> PhaseModel:
        """The cold-start phases that the simulator uses: the preset or the measured ones."""
        if self.real is None:
            return preset_named(self.phases)
        calibration, source = self.real.calibration, "measured by experiments.real.calibrate"
        phases = (
            (PhaseKind.ENGINE_INIT, Order.OVERLAPPED, calibration.boot),
            (PhaseKind.WARMUP, Order.AFTER, calibration.ready),
        )
        specs = (PhaseSpec(kind, order, _duration(each), source) for kind, order, each in phases)
        return PhaseModel("measured", tuple(specs))


def _duration(measured: Measured) -> Duration:
    if measured.median_s == 0:
        return Duration(0.0)
    return duration_with_p99(measured.median_s, measured.p99_s)
