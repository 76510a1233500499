"""Sharded safetensors: several files that form one checkpoint, and their index."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from sllmreal.checkpoint.errors import BadCheckpointError
from sllmreal.checkpoint.layout import Layout, Partition
from sllmreal.checkpoint.safetensors_header import SafetensorsHeader

SHARD_INDEXES = ("model.safetensors.index.json", "adapter_model.safetensors.index.json")
_MAX_SHARDS = 4096


class _ShardIndex(msgspec.Struct, frozen=True):
    weight_map: dict[str, str]


def parse_shard_index(raw: bytes, index: str) -> dict[str, str]:
    """Return the file name of each tensor from the bytes of the index file `index`.

    Raises BadCheckpointError if the index is malformed or names a file outside its directory.
    """
    try:
        weight_map = msgspec.json.decode(raw, type=_ShardIndex).weight_map
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadCheckpointError(f"{index} is malformed: {error}") from error
    for name in set(weight_map.values()):
        if "/" in name or "\0" in name or not name.endswith(".safetensors"):
            raise BadCheckpointError(f"{index} names the file {name[:140]!r}")
    if not 1 <= len(set(weight_map.values())) <= _MAX_SHARDS:
        raise BadCheckpointError(f"{index} must name 1 to {_MAX_SHARDS} files")
    return weight_map


def check_shard_index(layout: Layout, weight_map: Mapping[str, str]) -> None:
    """Raise BadCheckpointError unless every tensor lies in the file that the index names."""
    for tensor in layout.tensors:
        if tensor.name not in weight_map:
            raise BadCheckpointError(f"tensor {tensor.name!r} is in a shard but not in the index")
        if not tensor.empty and weight_map[tensor.name] != layout.partitions[tensor.partition].file:
            raise BadCheckpointError(f"tensor {tensor.name!r} is not in the shard the index names")
    missing = weight_map.keys() - {tensor.name for tensor in layout.tensors}
    if missing:
        raise BadCheckpointError(f"tensor {min(missing)!r} is in the index but in no shard")


def joined_layout(
    path: Path, identity: str, files: Sequence[Partition], headers: Sequence[SafetensorsHeader]
) -> Layout:
    """Return the layout of safetensors files with these headers; each file is a partition."""
    tensors = [tensor for header in headers for tensor in header.tensors]
    metadata: dict[str, str] = {}
    for header in headers:
        metadata.update(header.metadata)
    if len({tensor.name for tensor in tensors}) != len(tensors):
        raise BadCheckpointError(f"{path}: two shards have a tensor of the same name")
    return Layout(
        path=path,
        identity=identity,
        partitions=tuple(files),
        tensors=tuple(tensors),
        chunk_bytes=None,
        metadata=metadata,
    )
