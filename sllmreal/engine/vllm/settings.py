"""Settings of a model that vLLM serves, under vLLM's own names. Needs no vLLM."""

import msgspec

from sllmcore.errors import UsageError


class VllmSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Engine arguments of vLLM. None: vLLM's own default.

    `block_size` 32 on the CPU makes at most 31 tokens of a moved request be computed again.
    `kv_cache_memory_bytes` None: what `num_slots` requests of the whole context take.
    """

    tensor_parallel_size: int = 1
    max_model_len: int | None = None
    max_num_batched_tokens: int | None = None
    dtype: str = "auto"
    quantization: str | None = None
    enforce_eager: bool = True
    enable_prefix_caching: bool = True
    block_size: int | None = None
    kv_cache_memory_bytes: int | None = None
    gpu_memory_utilization: float | None = None

    def __post_init__(self) -> None:
        if self.tensor_parallel_size < 1:
            raise UsageError(
                f"tensor_parallel_size must be at least 1, got {self.tensor_parallel_size}"
            )
