"""Inference time from a model's shape and a GPU's datasheet.

With n GPUs in tensor parallel, a share u of the memory bandwidth and a share m of the peak rate:

    fixed             = weights read / (n bw u) + layers * overhead + 2 layers * all-reduce latency
    per_request       = 2 parameters per token / (n flops m) / 2 + 2 layers * all-reduce of a token
    per_context_token = KV bytes per token / (min(n, kv heads) bw u)
    prefill(tokens)   = overhead + max(weights read, products + attention + all-reduce)

A roofline takes the larger of reading and multiplying in a decode iteration. The linear timing adds
half of the multiplying instead. It is too high by half where both are equal, exact where
multiplying takes twice as long, and too low beyond that. A100-80G at batch 64 with 65 tokens of
context, in ms (70B on 4 GPUs):

                          7B     13B    70B
    measured (LMDeploy)   15     21     37-44
    linear, as here       14.1   25.1   35.7
    larger of both        12.0   21.3   29.7
    sum of both           16.2   29.2   41.1

Mixture of experts: a batch of B touches E (1 - (1 - k/E)^B) experts per layer, concave in B. The
line through B = 1 and B = `expert_batch` is exact at both. Between them it is too low (for the
experts of Mixtral by at most 25 % if `expert_batch` is 8, 55 % if it is 32); above them it is too
high without bound. Set `expert_batch` to the largest batch of the instance. Prefill reads all
experts.

Comparison with published figures, at batch 1, in ms:

    GPU, dtype          quantity                   published           here
    A100-80G fp16 [1]   token of 7B, 13B, 70B      10.0  17.4  29.5    10.7  19.1  29.2
    A100-80G fp16 [1]   prefill of 2048 tokens     139   242   402     139   268   393
    H100 [2]            token of Llama-2-7B        7.6                 7.5
    A100 fp16 [3]       prefill of 2048, 7B        133                 139
    H100 fp8 [3]        prefill of 2048, 7B        36                  35
    L40S fp8 [3]        prefill of 2048, 7B        73                  74

[1] LMDeploy v0.1, `docs/en/benchmark/a100_fp16.md`; 70B on 4 GPUs. [2] NVIDIA NeMo: 20 tokens after
128 in 153.8 ms. [3] TensorRT-LLM 0.5, its performance page, Llama-7B.

ServerlessLLM's ratio (recomputing 1000 tokens takes about as long as generating 100) is far from
the limit of the hardware: OPT-6.7B on A40 recomputes 1000 tokens in the time of 5 generated ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sllmcore.errors import UsageError
from sllmsim.catalog.dtypes import Dtype
from sllmsim.catalog.gpus import Architecture, GpuSpec
from sllmsim.catalog.model_spec import ModelSpec
from sllmsim.timing.linear import LinearTiming

BANDWIDTH_UTILISATION = 0.8  # fitted to the LMDeploy token times above, within 10 %
LAYER_OVERHEAD_S = 80e-6  # launches and small kernels of one layer: fitted with the former
NVLINK_ALL_REDUCE_S = 10e-6  # latency of a small all-reduce [M]
PCIE_ALL_REDUCE_S = 30e-6  # the same without NVLink [M]
EXPOSED_PRODUCTS = 0.5  # share of arithmetic that reading does not hide: see above

MFU: Mapping[Architecture, float] = {
    Architecture.VOLTA: 0.5,  # assumption
    Architecture.AMPERE: 0.65,  # A100: fitted to the prefill figures above, within 11 %
    Architecture.ADA: 0.55,  # L40S: fitted to 73 ms
    Architecture.HOPPER: 0.45,  # H100 fp8: fitted to 36 ms; fp16 assumed alike
    Architecture.BLACKWELL: 0.45,  # assumption: as Hopper
    Architecture.CPU: 0.4,  # assumption
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineEfficiency:
    """The shares of the hardware's peaks that an engine reaches.

    Args:
        mfu: Share of the peak arithmetic rate; None: that of the GPU's generation.
    """

    bandwidth_utilisation: float = BANDWIDTH_UTILISATION
    mfu: float | None = None
    layer_overhead_s: float = LAYER_OVERHEAD_S
    kv_dtype: Dtype = Dtype.FP16
    expert_batch: int = 8

    def __post_init__(self) -> None:
        if not 0 < self.bandwidth_utilisation <= 1:
            raise UsageError(
                f"bandwidth_utilisation must be in (0, 1], got {self.bandwidth_utilisation}"
            )
        if self.mfu is not None and not 0 < self.mfu <= 1:
            raise UsageError(f"mfu must be in (0, 1], got {self.mfu}")
        if self.layer_overhead_s < 0:
            raise UsageError(f"layer_overhead_s must not be negative, got {self.layer_overhead_s}")
        if self.expert_batch < 2:
            raise UsageError(f"expert_batch must be at least 2, got {self.expert_batch}")


DEFAULT_EFFICIENCY = EngineEfficiency()


def roofline(
    model: ModelSpec,
    dtype: Dtype,
    gpu: GpuSpec,
    num_gpus: int,
    efficiency: EngineEfficiency = DEFAULT_EFFICIENCY,
) -> LinearTiming:
    """Return the timing of an instance on `num_gpus` GPUs in tensor parallel.

    The weights need not fit (see `gpus_needed`).

    Raises:
        UsageError: `num_gpus` is less than 1.
    """
    if num_gpus < 1:
        raise UsageError(f"num_gpus must be at least 1, got {num_gpus}")
    read_bytes_per_s = gpu.memory_bytes_per_s * efficiency.bandwidth_utilisation
    mfu = efficiency.mfu if efficiency.mfu is not None else MFU[gpu.architecture]
    flops = num_gpus * gpu.flops(dtype) * mfu
    overhead_s = model.num_layers * (efficiency.layer_overhead_s + _latency_s(gpu, num_gpus))
    expert_s = _per_request_read_bytes(model, dtype, efficiency) / (num_gpus * read_bytes_per_s)
    one_s = model.read_bytes(dtype, 1) / (num_gpus * read_bytes_per_s)
    reduce_s = _reduce_s_per_token(model, gpu, num_gpus)
    kv_shards = min(num_gpus, model.num_kv_heads)
    kv_bytes = model.kv_bytes_per_token(efficiency.kv_dtype)
    layer_flops = 2.0 * model.layer_parameters_per_token
    product_s = (layer_flops + 2.0 * model.head_parameters) / flops
    attention_flops = 2.0 * model.num_layers * model.num_heads * model.head_dim  # n^2, causal
    return LinearTiming(
        fixed_s=one_s - expert_s + overhead_s,
        per_request_s=expert_s + EXPOSED_PRODUCTS * product_s + reduce_s,
        per_context_token_s=kv_bytes / (kv_shards * read_bytes_per_s),
        prefill_fixed_s=overhead_s,
        prefill_floor_s=model.read_bytes(dtype, float("inf")) / (num_gpus * read_bytes_per_s),
        prefill_per_token_s=layer_flops / flops + reduce_s,  # the head sees the last token only
        prefill_per_token2_s=attention_flops / (num_gpus * gpu.fp16_flops * mfu),
    )


def _per_request_read_bytes(model: ModelSpec, dtype: Dtype, efficiency: EngineEfficiency) -> float:
    """Return the slope of the line through the bytes read at batch 1 and at `expert_batch`."""
    batch = efficiency.expert_batch
    return (model.read_bytes(dtype, batch) - model.read_bytes(dtype, 1)) / (batch - 1)


def _latency_s(gpu: GpuSpec, num_gpus: int) -> float:
    """Return the latency of a layer's two all-reduces, after attention and after the MLP."""
    if num_gpus == 1:
        return 0.0
    return 2.0 * (PCIE_ALL_REDUCE_S if gpu.nvlink_bytes_per_s is None else NVLINK_ALL_REDUCE_S)


def _reduce_s_per_token(model: ModelSpec, gpu: GpuSpec, num_gpus: int) -> float:
    """Return the seconds of ring all-reduces for a token.

    Each GPU sends 2 (n - 1) / n of the fp16 activations, twice a layer.
    """
    sent_bytes = 2.0 * (num_gpus - 1) / num_gpus * model.hidden_size * 2
    return 2.0 * model.num_layers * sent_bytes / gpu.peer_bytes_per_s
