"""Export of a checkpoint as safetensors: one file, or shards with their index."""

import ctypes
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from sllmreal.checkpoint.assets import read_asset
from sllmreal.checkpoint.dtypes import ITEM_BYTES, safetensors_code, torch_dtype
from sllmreal.checkpoint.layout import TensorEntry
from sllmreal.checkpoint.opening import OpenedFile, read_exactly
from sllmreal.checkpoint.source import OpenedCheckpoint, opened_checkpoint
from sllmreal.checkpoint.staging import empty_directory, staged, write_durably
from sllmreal.checkpoint.writer import Progress

_COPY_BYTES = 8 << 20
DEFAULT_SHARD_BYTES = 5 * 10**9  # the default of the Hub's tools


@dataclass(frozen=True, slots=True)
class _Shard:
    file: str
    tensors: Sequence[TensorEntry]


def export_safetensors(
    path: Path,
    target: Path,
    max_shard_bytes: int = DEFAULT_SHARD_BYTES,
    progress: Progress | None = None,
) -> list[Path]:
    """Write the checkpoint at `path` as safetensors into the new directory `target`.

    Tied tensors are written once per name and strided ones row-major, because safetensors has no
    views. The directory appears when it is complete. Raises UsageError if it exists,
    BadCheckpointError for a dtype that safetensors lacks, StorageError for a failing disk.
    """
    with opened_checkpoint(Path(path)) as opened, staged(Path(target), replace=False) as stage:
        shards = _shards(opened.layout.tensors, max_shard_bytes, bool(_adapter(opened)))
        total = sum(_size_bytes(tensor) for tensor in opened.layout.tensors)
        empty_directory(stage.path)
        done = 0
        for shard in shards:
            done = _write_shard(
                opened=opened,
                shard=shard,
                directory=stage.path,
                progress=progress,
                done_of_total=(done, total),
            )
        _write_rest(opened, shards, stage.path, total)
        stage.publish()
        return [stage.target / shard.file for shard in shards]


def _adapter(opened: OpenedCheckpoint) -> bool:
    return any(asset.file == "adapter_config.json" for asset in opened.layout.assets)


def _size_bytes(tensor: TensorEntry) -> int:
    return math.prod(tensor.shape) * ITEM_BYTES[tensor.dtype]


def _shards(tensors: Sequence[TensorEntry], max_shard_bytes: int, adapter: bool) -> list[_Shard]:
    groups: list[list[TensorEntry]] = [[]]
    size = 0
    for tensor in tensors:
        if groups[-1] and size + _size_bytes(tensor) > max_shard_bytes:
            groups.append([])
            size = 0
        groups[-1].append(tensor)
        size += _size_bytes(tensor)
    stem = "adapter_model" if adapter else "model"
    if len(groups) == 1:
        return [_Shard(f"{stem}.safetensors", groups[0])]
    return [
        _Shard(f"{stem}-{number:05d}-of-{len(groups):05d}.safetensors", group)
        for number, group in enumerate(groups, start=1)
    ]


def _header(shard: _Shard, metadata: dict[str, str]) -> bytes:
    # transformers requires `format`; the source's own metadata is kept beside it.
    entries: dict[str, object] = {"__metadata__": {"format": "pt", **metadata}}
    offset = 0
    for tensor in shard.tensors:
        shape = list(tensor.shape)
        if tensor.dtype == "float4_e2m1fn_x2" and shape:
            shape[-1] *= 2
        end = offset + _size_bytes(tensor)
        entries[tensor.name] = {
            "dtype": safetensors_code(tensor.dtype),
            "shape": shape,
            "data_offsets": [offset, end],
        }
        offset = end
    raw = msgspec.json.encode(entries)
    raw += b" " * (-len(raw) % 8)
    return len(raw).to_bytes(8, "little") + raw


def _write_shard(
    opened: OpenedCheckpoint,
    shard: _Shard,
    directory: Path,
    progress: Progress | None,
    done_of_total: tuple[int, int],
) -> int:
    done, total = done_of_total
    with (directory / shard.file).open("xb", buffering=0) as output:
        _write_all(output.fileno(), _header(shard, dict(opened.layout.metadata)))
        for tensor in shard.tensors:
            if not tensor.empty:
                with opened.opened_partition(tensor.partition) as file:
                    _copy_tensor(tensor, file, output.fileno())
            done += _size_bytes(tensor)
            if progress is not None:
                progress(done, total)
        os.fsync(output.fileno())
    return done


def _copy_tensor(tensor: TensorEntry, file: OpenedFile, output_fd: int) -> None:
    if not tensor.contiguous:
        _write_all(output_fd, _row_major(tensor, file))
        return
    end = tensor.begin_bytes + _size_bytes(tensor)
    for begin in range(tensor.begin_bytes, end, _COPY_BYTES):
        part = read_exactly(file, min(_COPY_BYTES, end - begin), begin, tensor.name)
        _write_all(output_fd, part)


def _row_major(tensor: TensorEntry, file: OpenedFile) -> memoryview:
    import torch

    storage = bytearray(read_exactly(file, tensor.size_bytes, tensor.offset_bytes, tensor.name))
    dtype = torch_dtype(tensor.dtype)
    flat = torch.frombuffer(storage, dtype=torch.uint8)
    flat = flat[: tensor.size_bytes // dtype.itemsize * dtype.itemsize].view(dtype)
    view = flat.as_strided(
        tensor.shape, tensor.stride, tensor.view_offset_bytes // dtype.itemsize
    ).contiguous()
    size_bytes = view.numel() * dtype.itemsize
    return memoryview(bytes((ctypes.c_char * size_bytes).from_address(view.data_ptr())))


def _write_all(fd: int, data: bytes | memoryview) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def _write_rest(
    opened: OpenedCheckpoint, shards: Sequence[_Shard], directory: Path, total_bytes: int
) -> None:
    for asset in opened.layout.assets:
        content = read_asset(opened.layout, asset.file)
        assert content is not None, "an asset of the layout"
        write_durably(directory / asset.file, content)
    if len(shards) > 1:
        weight_map = {tensor.name: shard.file for shard in shards for tensor in shard.tensors}
        index = {"metadata": {"total_size": total_bytes}, "weight_map": weight_map}
        name = f"{shards[0].file.partition('-')[0]}.safetensors.index.json"
        write_durably(directory / name, msgspec.json.encode(index))
