"""A model of 350 GB: checked and planned within seconds; converted in little memory."""

import json
import resource
import sys
import time
from pathlib import Path

import pytest

from sllmreal.checkpoint import convert, read_layout
from sllmreal.loader.plan import plan_load

HIDDEN, LAYERS, VOCAB, POSITIONS = 12288, 96, 50272, 2050  # OPT-175B


def opt_175b(path: Path) -> int:
    """Write OPT-175B in fp16 as one sparse safetensors file and return its length in bytes."""
    shapes: dict[str, tuple[int, ...]] = {
        "model.decoder.embed_tokens.weight": (VOCAB, HIDDEN),
        "model.decoder.embed_positions.weight": (POSITIONS, HIDDEN),
    }
    for layer in range(LAYERS):
        prefix = f"model.decoder.layers.{layer}"
        for name in ("q", "k", "v", "out"):
            shapes[f"{prefix}.self_attn.{name}_proj.weight"] = (HIDDEN, HIDDEN)
            shapes[f"{prefix}.self_attn.{name}_proj.bias"] = (HIDDEN,)
        shapes[f"{prefix}.fc1.weight"] = (4 * HIDDEN, HIDDEN)
        shapes[f"{prefix}.fc1.bias"] = (4 * HIDDEN,)
        shapes[f"{prefix}.fc2.weight"] = (HIDDEN, 4 * HIDDEN)
        shapes[f"{prefix}.fc2.bias"] = (HIDDEN,)
        for name in ("self_attn_layer_norm", "final_layer_norm"):
            shapes[f"{prefix}.{name}.weight"] = (HIDDEN,)
            shapes[f"{prefix}.{name}.bias"] = (HIDDEN,)
    header: dict[str, object] = {}
    end = 0
    for name, shape in shapes.items():
        begin = end
        end += 2 * shape[0] * (shape[1] if len(shape) == 2 else 1)
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [begin, end]}
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    with path.open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        file.truncate(8 + len(raw) + end)
    return 8 + len(raw) + end


def test_350_gb_are_planned_in_a_second(tmp_path: Path) -> None:
    size_bytes = opt_175b(tmp_path / "model.safetensors")

    began_s = time.thread_time()
    plan = plan_load(read_layout(tmp_path / "model.safetensors"))
    took_s = time.thread_time() - began_s

    assert 345e9 < size_bytes < 355e9
    assert plan.size_bytes == size_bytes
    assert took_s < 2.0


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_350_gb_are_converted_in_little_memory(tmp_path: Path) -> None:
    opt_175b(tmp_path / "model.safetensors")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    layout = convert(tmp_path / "model.safetensors", tmp_path / "out")

    grown_bytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    sys.stderr.write(f"\n{layout.size_bytes} bytes converted, {grown_bytes} more resident\n")
    assert layout.size_bytes > 345e9
    assert grown_bytes < 64 << 20
    assert read_layout(tmp_path / "out").identity == layout.identity
