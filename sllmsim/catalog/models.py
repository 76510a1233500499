"""Public models by id, and the number of GPUs of an instance of each.

Shapes are from the config.json that each family publishes ([M]; checked by computing the published
number of parameters from them).
"""

from collections.abc import Mapping

from sllmcore.errors import UsageError
from sllmsim.catalog.dtypes import Dtype
from sllmsim.catalog.gpus import GpuSpec
from sllmsim.catalog.lookup import entry_named
from sllmsim.catalog.model_spec import ModelSpec

USABLE_MEMORY = (
    0.9  # vLLM's default gpu_memory_utilization; ECC, context and workspace take the rest
)
KV_RESERVE_TOKENS = 4096  # two full OPT contexts: assumption


def _opt(
    name: str, num_layers: int, hidden_size: int, num_heads: int, embedding_size: int | None = None
) -> ModelSpec:
    return ModelSpec(
        name=name,
        num_layers=num_layers,
        hidden_size=hidden_size,
        num_heads=num_heads,
        num_kv_heads=num_heads,
        head_dim=hidden_size // num_heads,
        ffn_size=4 * hidden_size,
        gated=False,
        vocab_size=50272,
        tied_embeddings=True,
        max_context_tokens=2048,
        num_positions=2050,  # OPT's table has an offset of two rows
        embedding_size=embedding_size,
    )


def _falcon(name: str, num_layers: int, hidden_size: int, num_kv_heads: int) -> ModelSpec:
    return ModelSpec(
        name=name,
        num_layers=num_layers,
        hidden_size=hidden_size,
        num_heads=hidden_size // 64,
        num_kv_heads=num_kv_heads,
        head_dim=64,
        ffn_size=4 * hidden_size,
        gated=False,
        vocab_size=65024,
        tied_embeddings=True,
        max_context_tokens=2048,
    )


def _llama2(
    name: str, num_layers: int, hidden_size: int, num_kv_heads: int, ffn_size: int
) -> ModelSpec:
    return ModelSpec(
        name=name,
        num_layers=num_layers,
        hidden_size=hidden_size,
        num_heads=hidden_size // 128,
        num_kv_heads=num_kv_heads,
        head_dim=128,
        ffn_size=ffn_size,
        gated=True,
        vocab_size=32000,
        tied_embeddings=False,
        max_context_tokens=4096,
    )


def _llama31(name: str, num_layers: int, hidden_size: int, ffn_size: int) -> ModelSpec:
    return ModelSpec(
        name=name,
        num_layers=num_layers,
        hidden_size=hidden_size,
        num_heads=hidden_size // 128,
        num_kv_heads=8,
        head_dim=128,
        ffn_size=ffn_size,
        gated=True,
        vocab_size=128256,
        tied_embeddings=False,
        max_context_tokens=131072,
    )


def _qwen25(
    name: str, num_layers: int, hidden_size: int, num_heads: int, num_kv_heads: int, ffn_size: int
) -> ModelSpec:
    small = hidden_size < 2048  # 0.5B and 1.5B: tied, and the unpadded vocabulary
    return ModelSpec(
        name=name,
        num_layers=num_layers,
        hidden_size=hidden_size,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=hidden_size // num_heads,
        ffn_size=ffn_size,
        gated=True,
        vocab_size=151936 if small else 152064,
        tied_embeddings=small,
        max_context_tokens=32768,
    )


_ROWS = (
    _opt("opt-125m", 12, 768, 12),
    _opt("opt-350m", 24, 1024, 16, embedding_size=512),
    _opt("opt-1.3b", 24, 2048, 32),
    _opt("opt-2.7b", 32, 2560, 32),
    _opt("opt-6.7b", 32, 4096, 32),
    _opt("opt-13b", 40, 5120, 40),
    _opt("opt-30b", 48, 7168, 56),
    _opt("opt-66b", 64, 9216, 72),
    _opt("opt-175b", 96, 12288, 96),
    _llama2(name="llama-2-7b", num_layers=32, hidden_size=4096, num_kv_heads=32, ffn_size=11008),
    _llama2(name="llama-2-13b", num_layers=40, hidden_size=5120, num_kv_heads=40, ffn_size=13824),
    _llama2(name="llama-2-70b", num_layers=80, hidden_size=8192, num_kv_heads=8, ffn_size=28672),
    _llama31("llama-3.1-8b", 32, 4096, 14336),
    _llama31("llama-3.1-70b", 80, 8192, 28672),
    _falcon("falcon-7b", 32, 4544, 1),
    _falcon("falcon-40b", 60, 8192, 8),
    _qwen25(
        name="qwen2.5-0.5b",
        num_layers=24,
        hidden_size=896,
        num_heads=14,
        num_kv_heads=2,
        ffn_size=4864,
    ),
    _qwen25(
        name="qwen2.5-1.5b",
        num_layers=28,
        hidden_size=1536,
        num_heads=12,
        num_kv_heads=2,
        ffn_size=8960,
    ),
    _qwen25(
        name="qwen2.5-7b",
        num_layers=28,
        hidden_size=3584,
        num_heads=28,
        num_kv_heads=4,
        ffn_size=18944,
    ),
    _qwen25(
        name="qwen2.5-14b",
        num_layers=48,
        hidden_size=5120,
        num_heads=40,
        num_kv_heads=8,
        ffn_size=13824,
    ),
    _qwen25(
        name="qwen2.5-32b",
        num_layers=64,
        hidden_size=5120,
        num_heads=40,
        num_kv_heads=8,
        ffn_size=27648,
    ),
    _qwen25(
        name="qwen2.5-72b",
        num_layers=80,
        hidden_size=8192,
        num_heads=64,
        num_kv_heads=8,
        ffn_size=29568,
    ),
    ModelSpec(
        name="qwen3-32b",
        num_layers=64,
        hidden_size=5120,
        num_heads=64,
        num_kv_heads=8,
        head_dim=128,
        ffn_size=25600,
        gated=True,
        vocab_size=151936,
        tied_embeddings=False,
        max_context_tokens=40960,
    ),
    ModelSpec(
        name="qwen3-30b-a3b",
        num_layers=48,
        hidden_size=2048,
        num_heads=32,
        num_kv_heads=4,
        head_dim=128,
        ffn_size=768,
        gated=True,
        vocab_size=151936,
        tied_embeddings=False,
        max_context_tokens=40960,
        num_experts=128,
        experts_per_token=8,
    ),
    ModelSpec(
        name="mixtral-8x7b",
        num_layers=32,
        hidden_size=4096,
        num_heads=32,
        num_kv_heads=8,
        head_dim=128,
        ffn_size=14336,
        gated=True,
        vocab_size=32000,
        tied_embeddings=False,
        max_context_tokens=32768,
        num_experts=8,
        experts_per_token=2,
    ),
    ModelSpec(
        name="mixtral-8x22b",
        num_layers=56,
        hidden_size=6144,
        num_heads=48,
        num_kv_heads=8,
        head_dim=128,
        ffn_size=16384,
        gated=True,
        vocab_size=32000,
        tied_embeddings=False,
        max_context_tokens=65536,
        num_experts=8,
        experts_per_token=2,
    ),
)

MODELS: Mapping[str, ModelSpec] = {model.name: model for model in _ROWS}


def model_named(name: str) -> ModelSpec:
    """Return a model by its id, such as "opt-6.7b".

    Raises:
        UsageError: There is no such model; the message lists similar ids.
    """
    return entry_named("model", name, MODELS)


def gpus_needed(
    model: ModelSpec, dtype: Dtype, gpu: GpuSpec, kv_reserve_tokens: int = KV_RESERVE_TOKENS
) -> int:
    """Return the least power of two of GPUs that hold a model and a KV cache in usable memory.

    Args:
        kv_reserve_tokens: Size of the KV cache.

    Raises:
        UsageError: `kv_reserve_tokens` is negative.
    """
    if kv_reserve_tokens < 0:
        raise UsageError(f"kv_reserve_tokens must not be negative, got {kv_reserve_tokens}")
    needed = model.weight_bytes(dtype) + kv_reserve_tokens * model.kv_bytes_per_token()
    num_gpus = 1
    while num_gpus * USABLE_MEMORY * gpu.memory_bytes < needed:
        num_gpus *= 2
    return num_gpus
