"""The index of a checkpoint: encoding, and the strict decoding that SPEC.md requires."""

import hashlib
import re
import struct
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import msgspec

from sllmreal.checkpoint.errors import BadCheckpointError
from sllmreal.checkpoint.layout import (
    BLOCK_BYTES,
    HASH_BYTES,
    MAX_BYTES,
    TENSOR_ALIGNMENT_BYTES,
    Asset,
    Layout,
    Partition,
    TensorEntry,
    align_up,
    check_tensor,
)

MAGIC = b"SLLMCKPT"
VERSION = 1
INDEX_FILE = "index.sllm"
ASSET_DIRECTORY = "assets"
MAX_BODY_BYTES = 32 << 20  # a quarter of a million tensors; small enough to hold twice in memory
MAX_ASSET_BYTES = 64 << 20
MAX_PARTITIONS = 1024
MAX_TENSORS = 1 << 20
MAX_ASSETS = 256
_HEADER = struct.Struct("<8sIIQQ32s")
HEADER_BYTES = _HEADER.size
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class _Partition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    file: str
    size_bytes: int
    sha256: str
    chunk_hashes: bytes


class _Tensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    name: str
    partition: int
    offset: int
    bytes: int
    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    view_offset: int = 0


class _Asset(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    file: str
    size_bytes: int
    sha256: str


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    chunk_bytes: int
    partitions: tuple[_Partition, ...]
    tensors: tuple[_Tensor, ...]
    metadata: dict[str, str]
    assets: tuple[_Asset, ...]


def encode_index(layout: Layout) -> bytes:
    """Return the bytes of `index.sllm`. Raises BadCheckpointError if `layout` breaks the format."""
    assert layout.chunk_bytes is not None, "only a layout with hashes has an index"
    body = msgspec.json.encode(
        _Body(
            chunk_bytes=layout.chunk_bytes,
            partitions=tuple(
                _Partition(part.file, part.size_bytes, part.sha256, part.chunk_hashes)
                for part in layout.partitions
            ),
            tensors=tuple(_encoded_tensor(tensor) for tensor in layout.tensors),
            metadata=dict(sorted(layout.metadata.items())),
            assets=tuple(
                _Asset(asset.file, asset.size_bytes, asset.sha256) for asset in layout.assets
            ),
        )
    )
    digest = hashlib.sha256(body).digest()
    header = (MAGIC, VERSION, HEADER_BYTES, len(body), layout.size_bytes, digest)
    index = _HEADER.pack(*header) + body
    decode_index(index, layout.path)
    return index


def _encoded_tensor(tensor: TensorEntry) -> _Tensor:
    return _Tensor(
        name=tensor.name,
        partition=tensor.partition,
        offset=tensor.offset_bytes,
        bytes=tensor.size_bytes,
        dtype=tensor.dtype,
        shape=tensor.shape,
        stride=tensor.stride,
        view_offset=tensor.view_offset_bytes,
    )


def decode_index(index: bytes, path: Path) -> Layout:
    """Return the layout that `index` describes; `path` becomes its path.

    Raises BadCheckpointError if a rule of SPEC.md is broken. The partition files are not read.
    """
    total_bytes, digest = _checked_header(index)
    raw = memoryview(index)[HEADER_BYTES:]
    if hashlib.sha256(raw).digest() != digest:
        raise BadCheckpointError("the index's body does not match its SHA-256")
    layout = _decoded_body(raw, path, digest.hex())
    _check_layout(layout, total_bytes)
    return layout


def _checked_header(index: bytes) -> tuple[int, bytes]:
    if len(index) < HEADER_BYTES:
        raise BadCheckpointError(
            f"an index must have at least {HEADER_BYTES} bytes, got {len(index)}"
        )
    fields = _HEADER.unpack_from(index)
    magic, version, header_bytes, body_bytes, total_bytes, digest = fields
    if magic != MAGIC:
        raise BadCheckpointError(f"magic must be {MAGIC!r}, got {magic!r}")
    if version != VERSION or header_bytes != HEADER_BYTES:
        raise BadCheckpointError(
            f"version {version} with a header of {header_bytes} bytes is not supported"
        )
    if not 1 <= body_bytes <= MAX_BODY_BYTES or len(index) != HEADER_BYTES + body_bytes:
        raise BadCheckpointError(
            f"the header gives {body_bytes} bytes of body, the index has {len(index)} bytes"
        )
    return total_bytes, digest


def _decoded_body(raw: memoryview, path: Path, identity: str) -> Layout:
    try:
        body = msgspec.json.decode(raw, type=_Body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadCheckpointError(f"the index's body is malformed: {error}") from error
    # There is one encoding per content: no duplicate keys, odd numbers or hidden white space.
    if msgspec.json.encode(body) != raw:
        raise BadCheckpointError("the index's body is not in its canonical encoding")
    return Layout(
        path=path,
        identity=identity,
        partitions=tuple(
            Partition(part.file, part.size_bytes, part.sha256, part.chunk_hashes)
            for part in body.partitions
        ),
        tensors=tuple(_decoded_tensor(tensor) for tensor in body.tensors),
        chunk_bytes=body.chunk_bytes,
        metadata=body.metadata,
        assets=tuple(Asset(asset.file, asset.size_bytes, asset.sha256) for asset in body.assets),
    )


def _decoded_tensor(tensor: _Tensor) -> TensorEntry:
    return TensorEntry(
        name=tensor.name,
        partition=tensor.partition,
        offset_bytes=tensor.offset,
        size_bytes=tensor.bytes,
        dtype=tensor.dtype,
        shape=tensor.shape,
        stride=tensor.stride,
        view_offset_bytes=tensor.view_offset,
    )


def _check_layout(layout: Layout, total_bytes: int) -> None:
    assert layout.chunk_bytes is not None
    chunk_bytes = layout.chunk_bytes
    if chunk_bytes & (chunk_bytes - 1) or not BLOCK_BYTES <= chunk_bytes <= 64 << 20:
        raise BadCheckpointError(f"chunk_bytes must be a power of two, got {chunk_bytes}")
    for what, num, limit in (
        ("partitions", len(layout.partitions), MAX_PARTITIONS),
        ("tensors", len(layout.tensors), MAX_TENSORS),
        ("assets", len(layout.assets), MAX_ASSETS),
    ):
        if num > limit:
            raise BadCheckpointError(f"at most {limit} {what}, got {num}")
    if not layout.partitions:
        raise BadCheckpointError("a checkpoint must have at least one partition")
    _check_files([part.file for part in layout.partitions])
    for partition in layout.partitions:
        _check_partition(partition, chunk_bytes)
    _check_assets(layout.assets)
    if layout.size_bytes != total_bytes:
        raise BadCheckpointError(
            f"partitions have {layout.size_bytes} bytes in all, the header gives {total_bytes}"
        )
    _check_tensors(layout)


def _check_files(names: Sequence[str]) -> None:
    for name in names:
        if not _FILE_NAME.fullmatch(name) or name in (INDEX_FILE, ASSET_DIRECTORY):
            raise BadCheckpointError(f"file name {name[:140]!r} is not allowed")
    if len(set(names)) != len(names):
        raise BadCheckpointError("two files have the same name")


def _check_partition(partition: Partition, chunk_bytes: int) -> None:
    size_bytes = partition.size_bytes
    if not 0 <= size_bytes <= MAX_BYTES or size_bytes % BLOCK_BYTES:
        raise BadCheckpointError(
            f"{partition.file}: size {size_bytes} is not a multiple of {BLOCK_BYTES}"
        )
    if len(partition.chunk_hashes) != HASH_BYTES * -(-size_bytes // chunk_bytes):
        raise BadCheckpointError(f"{partition.file}: chunk_hashes does not fit {size_bytes} bytes")
    if not _SHA256.fullmatch(partition.sha256):
        raise BadCheckpointError(f"{partition.file}: sha256 is not 64 lower-case hex digits")


def _check_assets(assets: tuple[Asset, ...]) -> None:
    _check_files([asset.file for asset in assets])
    for asset in assets:
        if not 0 <= asset.size_bytes <= MAX_ASSET_BYTES or not _SHA256.fullmatch(asset.sha256):
            raise BadCheckpointError(f"asset {asset.file}: bad size or sha256")


def _check_tensors(layout: Layout) -> None:
    names: set[str] = set()
    storages: list[list[tuple[int, int]]] = [[] for _ in layout.partitions]
    before = (0, 0)
    for tensor in layout.tensors:
        check_tensor(tensor)
        if tensor.name in names:
            raise BadCheckpointError(f"two tensors named {tensor.name!r}")
        names.add(tensor.name)
        if tensor.empty:
            continue
        if not 0 <= tensor.partition < len(layout.partitions):
            raise BadCheckpointError(f"tensor {tensor.name!r}: no partition {tensor.partition}")
        place = (tensor.partition, tensor.offset_bytes)
        if place < before:
            raise BadCheckpointError(f"tensor {tensor.name!r} is listed out of order")
        before = place
        storage = (tensor.offset_bytes, tensor.size_bytes)
        known = storages[tensor.partition]
        if not known or known[-1] != storage:
            known.append(storage)
    for partition, known in zip(layout.partitions, storages, strict=True):
        _check_tiling(partition, known)


def _check_tiling(partition: Partition, storages: list[tuple[int, int]]) -> None:
    """Check that each storage begins at the end of the one before, rounded up to 64."""
    ends = [0, *(offset + size for offset, size in storages)]
    begins = [offset for offset, _ in storages]
    for end, begin in zip(ends, begins, strict=False):
        if begin != align_up(end, TENSOR_ALIGNMENT_BYTES):
            raise BadCheckpointError(
                f"{partition.file}: a storage begins at {begin}, the one before ends at {end}"
            )
    if any(later <= earlier for earlier, later in pairwise(begins)):
        raise BadCheckpointError(f"{partition.file}: two storages begin at the same offset")
    if align_up(ends[-1], BLOCK_BYTES) != partition.size_bytes:
        raise BadCheckpointError(
            f"{partition.file}: storages end at {ends[-1]}, size is {partition.size_bytes}"
        )
