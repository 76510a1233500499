"""The driver of a run: the simulator, and what is true in it besides the hardware."""

from dataclasses import dataclass, field
from typing import Literal

from sllmcore.errors import UsageError
from sllmsim.faults import FaultRates
from sllmsim.phases import PRESETS
from sllmsim.setup import LoaderProfile, MigrationSettings


@dataclass(frozen=True, slots=True)
class DriverConfig:
    """How the simulated cluster behaves.

    Args:
        kind: Which driver; there is one.
        phases: Preset of the cold-start phases that move no bytes (`sllmsim.phases.PRESETS`).
        loader: Share of each link's bandwidth that the checkpoint loader reaches.
        migration: Messages and rounds of the token migration.
        faults: Mean times between faults.
        fault_horizon_s: Faults strike before this instant; None: there are none.
        recovers_tokens: An inference whose server crashed goes on from the tokens already sent.
        storage_bytes_per_s: Of the remote storage service, all servers together; None: no limit.
        profiled_migration: The policy knows each model's migration time from a profile taken
            before the run, as ServerlessLLM does; otherwise it starts from `policy.migration`.
        journal: Write the journal; a run without one is faster and cannot be replayed.
    """

    kind: Literal["sim"] = "sim"
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
        if self.phases not in PRESETS:
            raise UsageError(f"unknown phases {self.phases!r}, known are {', '.join(PRESETS)}")
        if self.fault_horizon_s is not None and self.fault_horizon_s < 0:
            raise UsageError(f"fault_horizon_s must not be negative, got {self.fault_horizon_s}")
        if self.storage_bytes_per_s is not None and self.storage_bytes_per_s <= 0:
            raise UsageError(f"storage_bytes_per_s must be positive: {self.storage_bytes_per_s}")
