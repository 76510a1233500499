"""Settings of a model that vLLM serves, under vLLM's own names. Needs no vLLM."""

from dataclasses import dataclass

from sllmcore.errors import UsageError


@dataclass(frozen=True, slots=True)
class VllmSettings:
    """Engine arguments of vLLM. None: vLLM's own default, or what the deployment implies.

    Args:
        tensor_parallel_size: Ranks of an instance; None: its number of GPUs.
        max_model_len: Prompt and output together; None: the deployment's context.
        block_size: Tokens of a KV block. After a migration at most one block less a token is
            computed again where KV cannot be copied.
        kv_cache_memory_bytes: None: on a CPU, room for every slot's whole context.
    """

    tensor_parallel_size: int | None = None
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
        for name in ("tensor_parallel_size", "max_model_len", "block_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1, got {value}")
