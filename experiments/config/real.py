"""The real driver: the engines of a real cluster, and their measured costs.

The simulator needs a calibration to predict such a cluster. It is measured on an idle cluster
before any workload is replayed (`python -m experiments.real.calibrate`), never fitted to a result.
"""

from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Literal

from sllmcore.errors import UsageError
from sllmreal.engine.kind import EngineKind
from sllmreal.engine.registry import ENGINES


@dataclass(frozen=True, slots=True)
class Measured:
    """A duration that was measured several times."""

    median_s: float
    p99_s: float

    def __post_init__(self) -> None:
        if not (isfinite(self.p99_s) and 0 <= self.median_s <= self.p99_s):
            raise UsageError(f"0 <= median_s <= p99_s must hold, got {self}")


@dataclass(frozen=True, slots=True)
class Calibration:
    """The times of an idle cluster besides the sleep of a timed engine.

    Args:
        boot: From the launch of an instance to an engine that lacks only its weights; overlaps the
            transfer.
        ready: From there, or from the weights' last byte, to the controller's `LoadFinished`.
        first_token_s: From the controller's decision to the client's first token, including the
            computation of the shortest prompt.
        token_s: Time of each further token, at batch 1.
        sequence_s: Time of each further token, per sequence in the batch beyond the first.
        prompt_token_s: Time per token of a prompt.
        load_share: Share of the declared bandwidths that loads reach; 1 if they are faster. A value
            below 1 matters: after one load, equal servers differ for a policy.
        checkpoint_bytes: Size of the generated models' weights; None: as in the config's models.
    """

    boot: Measured = field(default_factory=lambda: Measured(0.0, 0.0))
    ready: Measured = field(default_factory=lambda: Measured(0.0, 0.0))
    first_token_s: float = 0.0
    token_s: float = 0.0
    sequence_s: float = 0.0
    prompt_token_s: float = 0.0
    load_share: float = 1.0
    checkpoint_bytes: int | None = None

    def __post_init__(self) -> None:
        for name in ("first_token_s", "token_s", "sequence_s", "prompt_token_s"):
            value = getattr(self, name)
            if not (isfinite(value) and value >= 0):
                raise UsageError(f"{name} must be finite and not negative, got {value}")
        if not 0 < self.load_share <= 1:
            raise UsageError(f"load_share must be in (0, 1], got {self.load_share}")
        if self.checkpoint_bytes is not None and self.checkpoint_bytes < 1:
            raise UsageError(f"checkpoint_bytes must be positive, got {self.checkpoint_bytes}")


@dataclass(frozen=True, slots=True)
class RealSettings:
    """The setup of a real cluster on this machine.

    Args:
        engine: A name in `sllmreal.engine.registry`. `timed`: engines without weights, that sleep
            as long as the config's model would compute on the config's GPU, and storage that sleeps
            as its bandwidths require. `transformers`: generated weights of `sample`, real bytes
            from files through SSD directories and memory pools into models that compute on the CPU.
        placement: `children`: the leader, each worker and each engine are processes. `in_process`:
            all are in this process's one event loop, engines in threads; for tests.
        sample: A name in `sllmreal.engine.samples`, for engines that need weights.
        max_send_lag_s: A run fails if any request was sent later than that after its time.
        calibration: The measured times of such a cluster, for the simulator.
    """

    engine: str = "timed"
    placement: Literal["children", "in_process"] = "children"
    sample: str = "llama-tiny"
    max_send_lag_s: float = 0.25
    calibration: Calibration = field(default_factory=Calibration)

    def __post_init__(self) -> None:
        ENGINES[self.engine]  # refuses an unknown name
        if not self.max_send_lag_s > 0:
            raise UsageError(f"max_send_lag_s must be positive, got {self.max_send_lag_s}")

    @property
    def engine_kind(self) -> EngineKind[Any]:
        """The registered engine."""
        return ENGINES[self.engine]
