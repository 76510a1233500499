"""The benchmark's own arithmetic, and one small load through a worker as it measures."""

from pathlib import Path

import pytest
from safetensors.torch import save_file

from experiments.loading.breakdown import ALL_STEPS, by_tensor, gains, threads
from experiments.loading.campaign import drop_cached
from experiments.loading.crew import started_worker
from experiments.loading.models import DECODERS, Prepared, decoder_shapes, lora_shapes
from experiments.loading.overlap import Overlap
from sllmreal.checkpoint import convert
from tests.checkpoint.samples import small_model


def prepared(tmp_path: Path) -> Prepared:
    hub = tmp_path / "small" / "hub"
    hub.mkdir(parents=True)
    file = hub / "model.safetensors"
    save_file(small_model(), file)
    convert(hub, tmp_path / "small" / "native")
    return Prepared(
        "small", tmp_path / "small" / "native", file, hub / "none", hub, file.stat().st_size
    )


def test_gains_multiply_to_the_product() -> None:
    seconds = dict(zip(ALL_STEPS, (12.0, 6.0, 4.0, 2.0, 1.5, 1.0), strict=True))

    each = gains(seconds)

    assert each["step 2 bulk"] == 2.0
    assert each["product"] == 12.0


def test_overlap_is_the_slower_stage_over_both() -> None:
    assert Overlap(2.0, 1.0, 2.5).ratio == 0.8


def test_shapes_have_the_published_sizes() -> None:
    def billions(shapes: dict[str, tuple[int, ...]]) -> float:
        return sum(one[0] * (one[1] if len(one) == 2 else 1) for one in shapes.values()) / 1e9

    assert billions(decoder_shapes(DECODERS["tinyllama-1.1b"])) == pytest.approx(1.100, abs=0.001)
    assert billions(decoder_shapes(DECODERS["llama-3.2-1b"])) == pytest.approx(1.236, abs=0.001)
    assert billions(lora_shapes()) == pytest.approx(0.414, abs=0.001)


def test_a_worker_measures_a_load(tmp_path: Path) -> None:
    model = prepared(tmp_path)
    drop_cached(model)

    with started_worker("ours", model, "cpu") as worker:
        measured = worker.load(model, cold=True)

    assert 0 < measured["seconds"] < 60
    assert measured["minor_faults"] > 0


def test_the_steps_of_the_breakdown_verify_what_they_read(tmp_path: Path) -> None:
    model = prepared(tmp_path)
    (part,) = (model.native).glob("partition-*.bin")

    for step in (by_tensor, threads):
        (loaded,) = step(model)
        assert loaded.numpy().tobytes() == part.read_bytes()
