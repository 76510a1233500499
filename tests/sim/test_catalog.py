"""The catalogue against published counts, sizes and placements."""

from dataclasses import replace

import pytest

from sllmcore.errors import UsageError
from sllmsim.catalog import (
    GPUS,
    MODELS,
    Dtype,
    dtype_named,
    gpu_named,
    gpus_needed,
    model_named,
)

# Parameters in 1e9, from the model cards' safetensors index or the papers.
PUBLISHED_PARAMETERS = {
    "opt-125m": 0.125,
    "opt-350m": 0.331,
    "opt-1.3b": 1.316,
    "opt-2.7b": 2.652,
    "opt-6.7b": 6.658,
    "opt-13b": 12.85,
    "opt-30b": 29.97,
    "opt-66b": 65.72,
    "opt-175b": 175.0,
    "llama-2-7b": 6.738,
    "llama-2-13b": 13.02,
    "llama-2-70b": 68.98,
    "llama-3.1-8b": 8.030,
    "llama-3.1-70b": 70.55,
    "falcon-7b": 6.922,
    "falcon-40b": 41.3,
    "qwen2.5-0.5b": 0.494,
    "qwen2.5-1.5b": 1.544,
    "qwen2.5-7b": 7.616,
    "qwen2.5-14b": 14.77,
    "qwen2.5-32b": 32.76,
    "qwen2.5-72b": 72.71,
    "qwen3-32b": 32.76,
    "qwen3-30b-a3b": 30.53,
    "mixtral-8x7b": 46.70,
    "mixtral-8x22b": 140.6,
}
ACTIVE_PARAMETERS = {"mixtral-8x7b": 12.9, "mixtral-8x22b": 39.1, "qwen3-30b-a3b": 3.3}

# FP16 gigabytes that a simulator of ServerlessLLM's evaluation starts from: 2 bytes a parameter.
PAPER_SIZES_GB = {
    "opt-2.7b": 5.3,
    "opt-6.7b": 13.3,
    "opt-13b": 25.7,
    "opt-30b": 59.9,
    "opt-66b": 131.4,
    "llama-2-7b": 13.5,
    "llama-2-13b": 26.0,
    "llama-2-70b": 138.0,
    "falcon-7b": 13.8,
    "falcon-40b": 82.6,
}


@pytest.mark.parametrize("name", MODELS)
def test_the_shape_gives_the_published_number_of_parameters(name: str) -> None:
    published = PUBLISHED_PARAMETERS[name] * 1e9

    assert model_named(name).num_parameters == pytest.approx(published, rel=0.005)


@pytest.mark.parametrize("name", MODELS)
def test_active_parameters_are_all_of_a_dense_model_and_few_of_a_mixture(name: str) -> None:
    model = model_named(name)
    published = ACTIVE_PARAMETERS.get(name, model.num_parameters / 1e9) * 1e9

    assert model.num_active_parameters == pytest.approx(published, rel=0.02)


@pytest.mark.parametrize(("name", "gigabytes"), PAPER_SIZES_GB.items())
def test_fp16_checkpoints_have_the_sizes_of_the_paper(name: str, gigabytes: float) -> None:
    assert model_named(name).weight_bytes(Dtype.FP16) / 1e9 == pytest.approx(gigabytes, abs=0.06)


def test_quantised_checkpoints_keep_scales_and_fp16_embeddings() -> None:
    llama = model_named("llama-3.1-8b")

    # Published: the AWQ int4 checkpoint is 5.73 GB, fp16 16.06 GB.
    assert llama.weight_bytes(Dtype.INT4) == pytest.approx(5.73e9, rel=0.01)
    assert llama.weight_bytes(Dtype.FP16) == pytest.approx(16.06e9, rel=0.001)
    assert llama.weight_bytes(Dtype.FP8) == llama.weight_bytes(Dtype.INT8)


def test_the_kv_cache_has_the_published_bytes_per_token() -> None:
    # 524 KB for multi-head Llama-2-7B, 131 KB for grouped Llama-3.1-8B.
    assert model_named("llama-2-7b").kv_bytes_per_token() == 524_288
    assert model_named("llama-3.1-8b").kv_bytes_per_token() == 131_072
    assert model_named("llama-3.1-8b").kv_bytes_per_token(Dtype.FP8) == 65_536


@pytest.mark.parametrize(
    ("model", "gpu", "num_gpus"),
    [
        ("opt-6.7b", "a40", 1),  # ServerlessLLM's cluster: 6.7B and 13B take one A40, 30B two
        ("opt-13b", "a40", 1),
        ("opt-30b", "a40", 2),
        ("opt-30b", "a5000", 4),  # its loader testbed: 30B on four, LLaMA-2-70B on eight
        ("llama-2-70b", "a5000", 8),
        ("llama-2-70b", "a100-80g", 2),
        ("opt-175b", "h100-sxm", 8),
    ],
)
def test_an_instance_needs_the_gpus_of_the_published_testbeds(
    model: str, gpu: str, num_gpus: int
) -> None:
    assert gpus_needed(model_named(model), Dtype.FP16, gpu_named(gpu)) == num_gpus


def test_quantisation_and_a_smaller_reserve_need_fewer_gpus() -> None:
    opt, a40 = model_named("opt-30b"), gpu_named("a40")

    assert gpus_needed(opt, Dtype.INT4, a40) == 1
    assert gpus_needed(opt, Dtype.FP16, a40, kv_reserve_tokens=100_000) == 8
    with pytest.raises(UsageError, match="kv_reserve_tokens"):
        gpus_needed(opt, Dtype.FP16, a40, kv_reserve_tokens=-1)


def test_experts_touched_grow_from_one_tokens_share_to_all() -> None:
    mixtral = model_named("mixtral-8x7b")

    assert mixtral.experts_touched(1) == pytest.approx(2)
    assert mixtral.experts_touched(2) == pytest.approx(3.5)  # 8 (1 - 0.75^2)
    assert mixtral.experts_touched(float("inf")) == 8
    assert model_named("opt-6.7b").experts_touched(1) == 1


def test_unknown_names_get_the_close_matches() -> None:
    with pytest.raises(UsageError, match=r"unknown model 'opt-6\.7'; did you mean opt-6\.7b"):
        model_named("opt-6.7")
    with pytest.raises(UsageError, match=r"unknown gpu 'A100'; did you mean .*a100-80g"):
        gpu_named("A100")
    with pytest.raises(UsageError, match="unknown dtype 'zzz'; known: fp16, fp8, int4, int8"):
        dtype_named("zzz")
    assert dtype_named("fp8") is Dtype.FP8


@pytest.mark.parametrize("name", GPUS)
def test_the_powers_and_rates_of_every_gpu_are_in_order(name: str) -> None:
    gpu = gpu_named(name)

    assert gpu.name == name
    assert gpu.idle_w <= gpu.resident_w <= gpu.loading_w < gpu.busy_w
    assert gpu.flops(Dtype.FP16) <= gpu.flops(Dtype.FP8) <= 2.1 * gpu.flops(Dtype.FP16)
    assert gpu.pcie_bytes_per_s < gpu.memory_bytes_per_s


def test_formats_that_the_hardware_lacks_multiply_in_fp16() -> None:
    a100 = gpu_named("a100-80g")

    assert a100.flops(Dtype.FP8) == a100.flops(Dtype.INT4) == 312e12
    assert a100.flops(Dtype.INT8) == 624e12


def test_wrong_specs_are_refused() -> None:
    with pytest.raises(UsageError, match="memory_bytes of a40 must be positive"):
        replace(gpu_named("a40"), memory_bytes=0)
    with pytest.raises(UsageError, match="idle_w"):
        replace(gpu_named("a40"), idle_w=400)
    with pytest.raises(UsageError, match="must divide 32 heads"):
        replace(model_named("opt-6.7b"), num_kv_heads=5)
    with pytest.raises(UsageError, match=r"experts_per_token of opt-6\.7b"):
        replace(model_named("opt-6.7b"), experts_per_token=2)
