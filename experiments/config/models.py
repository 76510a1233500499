"""The deployed models, and the placement of their checkpoints when a run begins."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from sllmcore.errors import UsageError
from sllmsim.catalog import USABLE_MEMORY, GpuSpec, dtype_named, gpus_needed, model_named


@dataclass(frozen=True, slots=True)
class Deployment:
    """Copies of one model that count as different models, as fine-tuned variants do.

    Args:
        model: Id of the model table, such as "opt-6.7b".
        replicas: Number of copies; those of deployment `a` are named a-0, a-1, ...
        dtype: Type of the weights: fp16, fp8, int8 or int4.
        num_gpus: GPUs of one instance; None: as many as its weights and KV cache need.
        num_slots: Requests that one instance runs at once; 1 in the paper. None: as many as the KV
            cache beside the weights holds, each of `context_tokens`.
    """

    model: str
    replicas: int
    dtype: str = "fp16"
    num_gpus: int | None = None
    num_slots: int | None = 1
    context_tokens: int = 2048

    def __post_init__(self) -> None:
        model_named(self.model)
        dtype_named(self.dtype)
        for name in ("replicas", "num_slots", "num_gpus", "context_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1, got {value}")

    def gpus_per_instance(self, gpu: GpuSpec) -> int:
        """Return the number of GPUs of one instance."""
        if self.num_gpus is not None:
            return self.num_gpus
        return gpus_needed(model_named(self.model), dtype_named(self.dtype), gpu)

    def slots_per_instance(self, gpu: GpuSpec) -> int:
        """Return the slots of an instance: at least 1, even if one context does not fit."""
        if self.num_slots is not None:
            return self.num_slots
        kv_bytes = self.context_tokens * model_named(self.model).kv_bytes_per_token()
        usable_bytes = self.gpus_per_instance(gpu) * USABLE_MEMORY * gpu.memory_bytes
        return max(1, int((usable_bytes - self.size_bytes) // kv_bytes))

    @property
    def size_bytes(self) -> int:
        """Size of the checkpoint."""
        return model_named(self.model).weight_bytes(dtype_named(self.dtype))


@dataclass(frozen=True, slots=True)
class PlacementRule:
    """The initial content of one tier of each server.

    Args:
        kind: `everywhere`: each server has the most popular models that fit. `round_robin`: in
            rounds, the most popular model first, each model goes to the next server that has room
            and lacks it. `none`: the tier is empty; the checkpoints are in remote storage.
        replicas: Rounds of round_robin; None: until no model fits.
    """

    kind: Literal["everywhere", "round_robin", "none"] = "none"
    replicas: int | None = None

    def __post_init__(self) -> None:
        if self.replicas is not None and self.replicas < 1:
            raise UsageError(f"replicas must be at least 1, got {self.replicas}")
        if self.replicas is not None and self.kind != "round_robin":
            raise UsageError(f"replicas belong to kind round_robin, not {self.kind}")


@dataclass(frozen=True, slots=True)
class ModelsConfig:
    """Deployments by name, the most popular first unless the workload shuffles popularity."""

    deployments: Mapping[str, Deployment]
    ssd: PlacementRule = field(default_factory=lambda: PlacementRule("everywhere"))
    dram: PlacementRule = field(default_factory=PlacementRule)

    def __post_init__(self) -> None:
        if not self.deployments:
            raise UsageError("a run needs at least one deployment")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all models, in the order of the deployments."""
        return tuple(
            f"{name}-{index}"
            for name, deployment in self.deployments.items()
            for index in range(deployment.replicas)
        )
