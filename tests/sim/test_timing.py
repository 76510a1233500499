"""Closed forms against loops, and the roofline against published measurements."""

from dataclasses import replace
from math import fsum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sllmcore.errors import UsageError
from sllmsim.catalog import Dtype, gpu_named, gpus_needed, model_named
from sllmsim.timing import (
    EngineEfficiency,
    FittedTiming,
    LinearTiming,
    fitted_timing,
    iterations_done,
    iterations_s,
    roofline,
    step_s,
)

TABLE = {
    "prefill": [[128, 0.01], [1024, 0.07], [2048, 0.15]],
    "step": {"fixed_s": 0.01, "per_request_s": 1e-4, "per_context_token_s": 3e-7},
}


@st.composite
def timings(draw: st.DrawFn) -> LinearTiming:
    return LinearTiming(
        fixed_s=draw(st.floats(1e-4, 1.0)),
        per_request_s=draw(st.floats(0, 1e-2)),
        per_context_token_s=draw(st.just(0.0) | st.floats(1e-300, 1e-3)),
        prefill_per_token_s=0.0,
    )


@st.composite
def batches(draw: st.DrawFn) -> tuple[int, int]:
    batch = draw(st.integers(1, 256))
    return batch, batch + draw(st.integers(0, 1_000_000))


def timing_of(model: str, gpu: str, num_gpus: int = 1, dtype: Dtype = Dtype.FP16) -> LinearTiming:
    return roofline(model_named(model), dtype, gpu_named(gpu), num_gpus)


@given(timings(), batches(), st.integers(0, 300))
def test_many_iterations_take_as_long_as_their_sum(
    timing: LinearTiming, at: tuple[int, int], num_iterations: int
) -> None:
    batch, context_tokens = at
    looped = fsum(step_s(timing, batch, context_tokens + i * batch) for i in range(num_iterations))

    closed = iterations_s(timing, num_iterations, batch, context_tokens)

    assert closed == pytest.approx(looped, rel=1e-9)


@given(timings(), batches(), st.floats(0, 1e6))
def test_iterations_done_inverts_iterations_s(
    timing: LinearTiming, at: tuple[int, int], num_iterations: float
) -> None:
    elapsed_s = iterations_s(timing, num_iterations, *at)

    assert iterations_done(timing, elapsed_s, *at) == pytest.approx(num_iterations, rel=1e-9)


@given(timings(), batches(), st.floats(1e-6, 1e5))
def test_iterations_s_inverts_iterations_done(
    timing: LinearTiming, at: tuple[int, int], elapsed_s: float
) -> None:
    num_iterations = iterations_done(timing, elapsed_s, *at)

    assert iterations_s(timing, num_iterations, *at) == pytest.approx(elapsed_s, rel=1e-9)


@given(timings(), batches(), st.integers(0, 1000), st.integers(0, 1000))
def test_a_run_may_be_cut_anywhere(
    timing: LinearTiming, at: tuple[int, int], first: int, second: int
) -> None:
    batch, context_tokens = at
    whole_s = iterations_s(timing, first + second, batch, context_tokens)

    head_s = iterations_s(timing, first, batch, context_tokens)
    tail_s = iterations_s(timing, second, batch, context_tokens + first * batch)

    assert head_s + tail_s == pytest.approx(whole_s, rel=1e-9)


def test_three_iterations_by_hand() -> None:
    timing = LinearTiming(
        fixed_s=1.0, per_request_s=0.1, per_context_token_s=0.01, prefill_per_token_s=0.0
    )

    # Steps of 1 + 0.2 + 0.01 C over C = 10, 12, 14.
    assert iterations_s(timing, 3, 2, 10) == pytest.approx(1.3 + 1.32 + 1.34)
    assert iterations_done(timing, 1.3 + 1.32 + 1.34, 2, 10) == pytest.approx(3)
    assert iterations_done(timing, 0.0, 2, 10) == 0


@pytest.mark.parametrize(
    ("model", "gpu", "low_ms", "high_ms"),
    [
        ("opt-6.7b", "a40", 25, 30),  # bandwidth-bound: 19 ms at 696 GB/s, 65-75 % of it reached
        ("llama-2-7b", "a40", 25, 30),
        ("llama-2-7b", "a100-40g", 12, 15),
        ("llama-2-7b", "a100-80g", 10, 12),  # LMDeploy 10.0; NVIDIA NeMo 11.5
        ("llama-2-7b", "h100-sxm", 7, 8),  # NVIDIA NeMo 7.6
    ],
)
def test_a_7b_decodes_at_the_published_pace(
    model: str, gpu: str, low_ms: float, high_ms: float
) -> None:
    assert low_ms <= 1e3 * step_s(timing_of(model, gpu), 1, 512) <= high_ms


@pytest.mark.parametrize(
    ("model", "num_gpus", "batch", "published_ms"),
    [
        ("llama-2-7b", 1, 1, 10.0),
        ("llama-2-7b", 1, 64, 15.4),
        ("llama-2-13b", 1, 1, 17.4),
        ("llama-2-13b", 1, 64, 21.0),  # 128 tokens of 64 in 2.69 s
        ("llama-2-70b", 4, 1, 29.5),
        ("llama-2-70b", 4, 16, 31.0),  # median gap between tokens
        ("llama-2-70b", 4, 64, 39.0),  # 75th percentile of the gap
    ],
)
def test_decoding_on_a100_is_near_the_table_of_lmdeploy(
    model: str, num_gpus: int, batch: int, published_ms: float
) -> None:
    # LMDeploy docs/en/benchmark/a100_fp16.md, A100-80G, 1 token in and 128 out: 65 on average.
    timing = timing_of(model, "a100-80g", num_gpus)

    step_ms = 1e3 * step_s(timing, batch, 65 * batch)

    assert step_ms == pytest.approx(published_ms, rel=0.12 if batch < 64 else 0.20)


@pytest.mark.parametrize(
    ("model", "gpu", "num_gpus", "dtype", "published_ms"),
    [
        ("llama-2-7b", "a100-80g", 1, Dtype.FP16, 139),  # LMDeploy
        ("llama-2-7b", "a100-80g", 1, Dtype.FP16, 133),  # this and the next: TensorRT-LLM 0.5
        ("llama-2-70b", "a100-80g", 4, Dtype.FP16, 377),
        ("llama-2-70b", "a100-80g", 4, Dtype.FP16, 402),  # LMDeploy
        ("llama-2-13b", "a100-80g", 1, Dtype.FP16, 242),  # LMDeploy
        ("llama-2-7b", "h100-sxm", 1, Dtype.FP8, 36),  # TensorRT-LLM, as the rest
        ("llama-2-70b", "h100-sxm", 4, Dtype.FP8, 109),
        ("llama-2-7b", "l40s", 1, Dtype.FP8, 73),
    ],
)
def test_prefill_of_2048_tokens_is_near_the_published_times(
    model: str, gpu: str, num_gpus: int, dtype: Dtype, published_ms: float
) -> None:
    prefill_ms = 1e3 * timing_of(model, gpu, num_gpus, dtype).prefill_s(2048)

    assert prefill_ms == pytest.approx(published_ms, rel=0.12)


def test_an_8b_prefills_at_13_to_15_thousand_tokens_a_second_on_a100() -> None:
    # BlitzScale's configuration: 13k for Llama-2-7B, 15k for an 8B.
    for model in ("llama-2-7b", "llama-3.1-8b"):
        assert 13_000 < 2048 / timing_of(model, "a100-80g").prefill_s(2048) < 15_000


def test_recomputing_1000_tokens_is_far_faster_than_generating_100() -> None:
    # ServerlessLLM: about 100. The roofline: 5 for OPT-6.7B on A40, 7 on A5000.
    a40, a5000 = timing_of("opt-6.7b", "a40"), timing_of("opt-6.7b", "a5000")

    assert a40.prefill_s(1000) / step_s(a40, 1, 1000) == pytest.approx(5.1, abs=0.2)
    assert a5000.prefill_s(1000) / step_s(a5000, 1, 1000) == pytest.approx(7.3, abs=0.3)


def test_a_short_prompt_still_reads_all_weights() -> None:
    timing = timing_of("llama-2-7b", "a100-80g")

    assert timing.prefill_s(0) == 0
    assert timing.prefill_s(1) == timing.prefill_s(64) == pytest.approx(0.0107, rel=0.01)


def test_more_gpus_and_fewer_bytes_are_faster_but_not_in_proportion() -> None:
    one, two = timing_of("opt-13b", "a40"), timing_of("opt-13b", "a40", 2)
    int4 = timing_of("opt-13b", "a40", 1, Dtype.INT4)

    assert 0.5 < step_s(two, 1, 100) / step_s(one, 1, 100) < 0.7
    assert 0.25 < step_s(int4, 1, 100) / step_s(one, 1, 100) < 0.5
    assert int4.prefill_per_token_s == one.prefill_per_token_s  # weight-only


def test_tensor_parallelism_cannot_split_a_single_kv_head() -> None:
    one, four = timing_of("falcon-7b", "a40"), timing_of("falcon-7b", "a40", 4)

    assert four.per_context_token_s == one.per_context_token_s


@pytest.mark.parametrize(("top", "low_by"), [(8, 0.25), (32, 0.55)])
def test_the_timing_of_a_mixture_is_exact_at_both_ends_and_low_between(
    top: int, low_by: float
) -> None:
    model, gpu = model_named("mixtral-8x7b"), gpu_named("a100-80g")
    timing = roofline(
        model=model,
        dtype=Dtype.FP16,
        gpu=gpu,
        num_gpus=2,
        efficiency=EngineEfficiency(expert_batch=top),
    )
    dense_s = (model.layer_parameters_per_token + model.head_parameters) / (2 * 312e12 * 0.65)
    reduce_s = 2 * 32 * 4096 * 2 / 250e9
    bytes_per_s = 2 * 0.8 * gpu.memory_bytes_per_s
    overhead_s = 32 * (80e-6 + 2 * 10e-6)

    def read_s(batch: int) -> float:
        return step_s(timing, batch, 0) - batch * (dense_s + reduce_s) - overhead_s

    def true_s(batch: int) -> float:
        return model.read_bytes(Dtype.FP16, batch) / bytes_per_s

    assert read_s(1) == pytest.approx(true_s(1))
    assert read_s(top) == pytest.approx(true_s(top))
    assert all((1 - low_by) * true_s(b) < read_s(b) < true_s(b) for b in range(2, top))


@pytest.mark.parametrize("model", ["opt-125m", "llama-3.1-70b", "qwen3-30b-a3b"])
@pytest.mark.parametrize("gpu", ["v100", "l4", "b200", "cpu"])
@pytest.mark.parametrize("dtype", Dtype)
def test_every_combination_gives_a_timing_that_grows(model: str, gpu: str, dtype: Dtype) -> None:
    num_gpus = gpus_needed(model_named(model), dtype, gpu_named(gpu))
    timing = timing_of(model, gpu, num_gpus, dtype)

    assert 0 < step_s(timing, 1, 1) < step_s(timing, 2, 2) < step_s(timing, 2, 5000)
    assert 0 < timing.prefill_s(1) <= timing.prefill_s(1000) < timing.prefill_s(100_000)


def test_each_efficiency_scales_its_times() -> None:
    model, gpu = model_named("opt-6.7b"), gpu_named("a40")
    base = roofline(model, Dtype.FP16, gpu, 1)
    fp8_cache = roofline(
        model=model,
        dtype=Dtype.FP16,
        gpu=gpu,
        num_gpus=1,
        efficiency=EngineEfficiency(kv_dtype=Dtype.FP8),
    )
    half_mfu = roofline(
        model=model, dtype=Dtype.FP16, gpu=gpu, num_gpus=1, efficiency=EngineEfficiency(mfu=0.325)
    )

    assert fp8_cache == replace(base, per_context_token_s=base.per_context_token_s / 2)
    assert half_mfu.prefill_per_token_s == pytest.approx(2 * base.prefill_per_token_s)


def test_a_fitted_table_interpolates_and_extends() -> None:
    timing = fitted_timing(TABLE)

    assert timing == FittedTiming(
        fixed_s=0.01,
        per_request_s=1e-4,
        per_context_token_s=3e-7,
        prefill_tokens=(128, 1024, 2048),
        prefill_seconds=(0.01, 0.07, 0.15),
    )
    assert timing.prefill_s(0) == 0
    assert timing.prefill_s(5) == timing.prefill_s(128) == 0.01
    assert timing.prefill_s(576) == pytest.approx(0.04)
    assert timing.prefill_s(2048) == pytest.approx(0.15)
    assert timing.prefill_s(3072) == pytest.approx(0.23)
    assert step_s(timing, 2, 1000) == pytest.approx(0.01 + 2e-4 + 3e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prefill": [[128, 0.01]]}, "at least two points"),
        ({"prefill": [[128, 0.01], [128, 0.02]]}, "must increase"),
        ({"prefill": [[128, 0.02], [256, 0.01]]}, "must not decrease"),
        ({"prefill": [[0, 0.01], [256, 0.02]]}, "1 token or more"),
        ({"prefill": [[1.5, 0.01], [256, 0.02]]}, "must be whole"),
        ({"prefill": [[1, 0.01, 3], [256, 0.02]]}, "tokens, seconds"),
        ({"prefill": 3}, "list of"),
        ({"prefill": [[1, float("nan")], [2, 0.1]]}, "finite number"),
        ({"step": {"fixed_s": 0.1}}, "step must have the keys"),
        ({"step": 3}, "step must be a mapping"),
        ({"step": {**TABLE["step"], "fixed_s": 0}}, "fixed_s must be positive"),  # type: ignore[dict-item]
        ({"step": {**TABLE["step"], "per_request_s": -1}}, "per_request_s"),  # type: ignore[dict-item]
        ({"step": {**TABLE["step"], "per_context_token_s": True}}, "per_context_token_s"),  # type: ignore[dict-item]
        ({"typo": 1}, "timing must have the keys"),
    ],
)
def test_a_wrong_fitted_table_is_refused_with_the_name_of_the_key(
    change: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        fitted_timing({**TABLE, **change})


def test_wrong_coefficients_are_refused() -> None:
    timing = timing_of("opt-6.7b", "a40")

    with pytest.raises(UsageError, match="fixed_s must be positive"):
        replace(timing, fixed_s=0.0)
    with pytest.raises(UsageError, match="prefill_floor_s"):
        replace(timing, prefill_floor_s=-1.0)
    with pytest.raises(UsageError, match="num_gpus"):
        timing_of("opt-6.7b", "a40", 0)
    with pytest.raises(UsageError, match="bandwidth_utilisation"):
        EngineEfficiency(bandwidth_utilisation=1.5)
    with pytest.raises(UsageError, match="expert_batch"):
        EngineEfficiency(expert_batch=1)
