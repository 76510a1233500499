"""Small checkpoints that exercise the format: every dtype, odd shapes, views, ties."""

import warnings
from pathlib import Path

import torch

from sllmreal.checkpoint import save_checkpoint
from sllmreal.checkpoint.convert import WriteOptions
from sllmreal.checkpoint.dtypes import ITEM_BYTES, torch_dtype
from sllmreal.checkpoint.layout import Layout


def random_tensor(dtype: torch.dtype, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Return random bytes as a tensor of that dtype: every bit pattern may occur."""
    generator = torch.Generator().manual_seed(seed)
    num_bytes = dtype.itemsize * int(torch.Size(shape).numel())
    raw = torch.randint(0, 256, (num_bytes,), dtype=torch.uint8, generator=generator)
    if dtype is torch.bool:
        raw = raw % 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that complex32 is experimental
        return raw.view(dtype).reshape(shape)


def every_kind() -> dict[str, torch.Tensor]:
    """Return a tensor of every dtype, and one of every odd kind: views, ties, empty ones."""
    tensors = {
        f"layers.{number}.{name}": random_tensor(torch_dtype(name), (3, 8), number)
        for number, name in enumerate(ITEM_BYTES)
    }
    base = random_tensor(torch.float32, (16, 24), 99)
    tied = random_tensor(torch.bfloat16, (40, 8), 98)
    tensors |= {
        "scalar": torch.tensor(2.5),
        "empty": torch.empty(0, 7, dtype=torch.float16),
        "empty_inside": torch.empty(4, 0, 2),
        "ones": random_tensor(torch.int64, (1, 1, 1), 97),
        "strided": base[2:9:2, 3:20].t(),
        "expanded": base[0, :5].expand(6, 5),
        "of_the_same_storage": base[4],
        "lm_head.weight": tied,
        "embed_tokens.weight": tied,
        "odd_bytes": random_tensor(torch.int8, (13,), 96),
    }
    return tensors


def same_bytes(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Return True for equal dtype, shape and bits; NaNs of equal bits are equal."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if one.numel() == 0:
        return True
    return torch.equal(_bits(one), _bits(other))


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        integers = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
        if tensor.dtype is torch.complex128:
            return torch.view_as_real(tensor.resolve_conj()).view(torch.int64)
        flat = tensor.view(integers[tensor.dtype.itemsize])
        return flat.contiguous()


def assert_same(loaded: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """Assert equal names, and equal bytes of each tensor."""
    assert loaded.keys() == expected.keys()
    for name, tensor in expected.items():
        assert same_bytes(loaded[name], tensor), name


def small_model(num_layers: int = 4, width: int = 64) -> dict[str, torch.Tensor]:
    """Return the tensors of a toy decoder, named like Llama's."""
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (256, width)}
    for layer in range(num_layers):
        prefix = f"model.layers.{layer}"
        for name in ("q", "k", "v", "o"):
            shapes[f"{prefix}.self_attn.{name}_proj.weight"] = (width, width)
        shapes[f"{prefix}.mlp.up_proj.weight"] = (4 * width, width)
        shapes[f"{prefix}.mlp.down_proj.weight"] = (width, 4 * width)
        shapes[f"{prefix}.input_layernorm.weight"] = (width,)
    shapes["lm_head.weight"] = (256, width)
    return {
        name: random_tensor(torch.float16, shape, seed)
        for seed, (name, shape) in enumerate(shapes.items())
    }


def saved(path: Path, num_partitions: int = 1, chunk_bytes: int = 4096) -> Layout:
    """Save a small model of many small chunks at `path`."""
    return save_checkpoint(small_model(), path, WriteOptions(num_partitions, chunk_bytes))
