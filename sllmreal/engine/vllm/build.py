"""From a deployment to a ready vLLM engine, and the phases of that cold start."""

import os
import time
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

# vLLM reads these when it is imported or configured. The core runs in this process, so that its
# step is a function call; an engine never looks for anything on a network.
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")

import torch
from pydantic import ValidationError
from vllm.config import KVTransferConfig, VllmConfig
from vllm.engine.arg_utils import EngineArgs
from vllm.platforms import current_platform
from vllm.v1.engine.core import EngineCore
from vllm.v1.executor import Executor

from sllmcore.errors import UsageError
from sllmreal.engine.cache import CacheShape
from sllmreal.engine.protocol import Capabilities, SequenceSpec
from sllmreal.engine.samples import write_sample
from sllmreal.engine.vllm.engine import VllmEngine
from sllmreal.engine.vllm.kv_layout import READABLE_ISA
from sllmreal.engine.vllm.loader import LOAD_FORMAT, WEIGHTS_KEY, encoded_weights
from sllmreal.engine.vllm.settings import VllmSettings
from sllmreal.engine.weights import Weights

_CPU_BLOCK_TOKENS = 32
_WARM_UP_SAMPLE = "llama-mini"


@dataclass(frozen=True, slots=True)
class VllmModel:
    """A model to serve: its directory, or its weights in a worker's pool, and sizes."""

    directory: str
    num_slots: int
    context_tokens: int | None
    settings: VllmSettings
    num_ranks: int = 1
    weights: Weights | None = None

    @property
    def identity(self) -> str:
        return self.directory if self.weights is None else self.weights.identity


@dataclass(frozen=True, slots=True)
class VllmColdStart:
    """Phases in seconds: vLLM's configuration, then its core with weights and KV cache."""

    config_s: float
    core_s: float


def checked_config(model: VllmModel) -> VllmConfig:
    """Return vLLM's configuration for a model. Raises UsageError for what vLLM refuses."""
    try:
        config = _engine_args(model).create_engine_config()
    except (ValueError, TypeError, OSError, KeyError, NotImplementedError) as error:
        raise UsageError(f"vLLM refuses the model: {_reason(error)}") from error
    if config.cache_config.kv_cache_memory_bytes is None and current_platform.is_cpu():
        # Room for every slot's whole context, and a block that a request shares with no other.
        block_tokens = config.cache_config.block_size
        blocks = model.num_slots * (-(-config.model_config.max_model_len // block_tokens) + 1)
        shape = _cache_shape(config)
        config.cache_config.kv_cache_memory_bytes = (blocks + 1) * block_tokens * shape.token_bytes
    return config


def vllm_engine(model: VllmModel) -> tuple[VllmEngine, VllmColdStart]:
    """Make a model ready in this process. Raises UsageError for what vLLM refuses."""
    began_s = time.perf_counter()
    config = checked_config(model)
    configured_s = time.perf_counter()
    core = EngineCore(config, Executor.get_class(config), log_stats=False)
    engine = VllmEngine(core, _capabilities(model, core))
    now_s = time.perf_counter()
    return engine, VllmColdStart(configured_s - began_s, now_s - configured_s)


def _reason(error: Exception) -> str:
    """Return an error's text in one line."""
    if isinstance(error, ValidationError):
        texts = [str(one["msg"]).removeprefix("Value error, ") for one in error.errors()]
    else:
        texts = [str(error)]
    return " ".join("; ".join(texts).split())[:500]


def _engine_args(model: VllmModel) -> EngineArgs:
    settings = model.settings
    chosen: dict[str, Any] = {
        "model": model.directory,
        "dtype": settings.dtype,
        "quantization": settings.quantization,
        "tensor_parallel_size": model.num_ranks,
        "enforce_eager": settings.enforce_eager,
        "enable_prefix_caching": settings.enable_prefix_caching,
        "max_model_len": settings.max_model_len or model.context_tokens,
        "max_num_seqs": model.num_slots,
        "async_scheduling": False,
        "skip_tokenizer_init": True,
        "disable_log_stats": True,
        "logits_processors": ["sllmreal.engine.vllm.sampling:SeededDraw"],
    }
    for name in ("max_num_batched_tokens", "gpu_memory_utilization", "kv_cache_memory_bytes"):
        if (value := getattr(settings, name)) is not None:
            chosen[name] = value
    if settings.block_size is not None or current_platform.is_cpu():
        chosen["block_size"] = settings.block_size or _CPU_BLOCK_TOKENS
    if model.weights is not None:
        chosen["load_format"] = LOAD_FORMAT
        chosen["model_loader_extra_config"] = {WEIGHTS_KEY: encoded_weights(model.weights)}
    if model.num_ranks == 1:
        chosen["distributed_executor_backend"] = "uni"
        chosen["kv_transfer_config"] = KVTransferConfig(
            kv_connector="KvLanding",
            kv_connector_module_path="sllmreal.engine.vllm.kv_landing",
            kv_role="kv_both",
        )
        chosen["disable_hybrid_kv_cache_manager"] = True
    return EngineArgs(**chosen)


def _capabilities(model: VllmModel, core: EngineCore) -> Capabilities:
    config = core.vllm_config
    shape = _cache_shape(config)
    layers = config.compilation_config.static_forward_context.values()
    exports_kv = model.num_ranks == 1 and all(
        getattr(layer, "isa", READABLE_ISA) == READABLE_ISA and current_platform.is_cpu()
        for layer in layers
    )
    return Capabilities(
        model=model.identity,
        context_tokens=config.model_config.max_model_len,
        num_slots=model.num_slots,
        vocab_size=config.model_config.get_vocab_size(),
        exports_kv=exports_kv,
        kv_bytes_per_token=shape.token_bytes if exports_kv else 0,
        kv_layout=shape.layout if exports_kv else "",
    )


def _cache_shape(config: VllmConfig) -> CacheShape:
    """Return what one rank caches for a token."""
    model, parallel = config.model_config, config.parallel_config
    return CacheShape(
        num_layers=model.get_num_layers(parallel),
        num_heads=model.get_num_kv_heads(parallel),
        head_dim=model.get_head_size(),
        dtype=model.dtype,
        device=torch.device("cpu"),
    )


def warm_up() -> None:
    """Start an engine of a tiny model and generate a token: imports and first-use costs are paid.

    Nothing of it is kept but what vLLM and torch initialise once per process.
    """
    with TemporaryDirectory(prefix="sllm-warm-up-") as directory:
        write_sample(directory, _WARM_UP_SAMPLE, dtype=torch.bfloat16)
        engine, _ = vllm_engine(VllmModel(directory, 1, None, VllmSettings()))
        engine.start(SequenceSpec("warm-up", (1, 2, 3), 1))
        while engine.has_work:
            engine.step()
        engine.close()
