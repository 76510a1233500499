"""The place of every byte of a checkpoint, the same for all formats.

Element [i0, i1, ...] of a tensor lies at  offset + view_offset + item_bytes * sum(i * stride).
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sllmreal.checkpoint.dtypes import ITEM_BYTES
from sllmreal.checkpoint.errors import BadCheckpointError

BLOCK_BYTES = 4096  # direct I/O: every common device's logical block divides it
TENSOR_ALIGNMENT_BYTES = 64  # a cache line, and the widest vector load
HASH_BYTES = 16  # XXH3-128
MAX_DIMS = 64  # torch's own limit on a tensor's rank
MAX_NAME_CHARS = 1024
MAX_BYTES = (1 << 63) - 1  # torch's sizes and the kernel's offsets are signed 64-bit

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def align_up(num: int, alignment: int) -> int:
    """Return the least multiple of `alignment` that is at least `num`."""
    return -(-num // alignment) * alignment


@dataclass(frozen=True, slots=True)
class Partition:
    """A file of tensor bytes. `chunk_hashes` is empty if the format has none."""

    file: str
    size_bytes: int
    sha256: str = ""
    chunk_hashes: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """A tensor as a strided view of its storage `[offset, offset + bytes)` in a partition."""

    name: str
    partition: int
    offset_bytes: int
    size_bytes: int
    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    view_offset_bytes: int = 0

    @property
    def begin_bytes(self) -> int:
        """Offset of the view in its partition."""
        return self.offset_bytes + self.view_offset_bytes

    @property
    def empty(self) -> bool:
        return 0 in self.shape

    @property
    def contiguous(self) -> bool:
        """True for row-major order without gaps; dimensions of extent 1 may have any stride."""
        if self.empty:
            return True
        dense = contiguous_stride(self.shape)
        return self.stride == dense or all(
            extent == 1 or step == want
            for extent, step, want in zip(self.shape, self.stride, dense, strict=True)
        )


@dataclass(frozen=True, slots=True)
class Asset:
    """A small file that belongs to the weights: configuration, tokenizer."""

    file: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Layout:
    """A checkpoint's files and tensors. Layouts of equal `identity` describe equal bytes.

    In a format without a digest, the identity is a hash of the files' names, sizes, inodes and
    times: it changes when a file is replaced, and must not be compared across machines.
    """

    path: Path
    identity: str
    partitions: tuple[Partition, ...]
    tensors: tuple[TensorEntry, ...]
    chunk_bytes: int | None = None  # None: no hashes recorded
    metadata: Mapping[str, str] = field(default_factory=dict)
    assets: tuple[Asset, ...] = ()

    @property
    def size_bytes(self) -> int:
        return sum(partition.size_bytes for partition in self.partitions)


def contiguous_stride(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return row-major strides in elements, as torch computes them."""
    strides: list[int] = []
    step = 1
    for extent in reversed(shape):
        strides.append(step)
        step *= max(extent, 1)
    return tuple(reversed(strides))


def span_bytes(dtype: str, shape: tuple[int, ...], stride: tuple[int, ...]) -> int:
    """Return the bytes from the first element to the end of the last; 0 without elements."""
    if 0 in shape:
        return 0
    steps = sum((extent - 1) * step for extent, step in zip(shape, stride, strict=True))
    return (steps + 1) * ITEM_BYTES[dtype]


def check_tensor(tensor: TensorEntry) -> None:
    """Raise BadCheckpointError unless the view is well formed and lies inside its storage."""
    name = tensor.name
    if not 1 <= len(name) <= MAX_NAME_CHARS:
        raise BadCheckpointError(
            f"a tensor's name must have 1 to {MAX_NAME_CHARS} characters, got {len(name)}"
        )
    if _CONTROL.search(name):
        raise BadCheckpointError(f"tensor {name!r}: the name must not contain a control character")
    if tensor.dtype not in ITEM_BYTES:
        raise BadCheckpointError(f"tensor {name!r}: unknown dtype {tensor.dtype[:40]!r}")
    if len(tensor.shape) > MAX_DIMS or len(tensor.stride) != len(tensor.shape):
        raise BadCheckpointError(
            f"tensor {name!r}: shape and stride must have the same length, at most 64"
        )
    if min(tensor.shape, default=0) < 0 or min(tensor.stride, default=0) < 0:
        raise BadCheckpointError(f"tensor {name!r}: negative shape or stride")
    num_bytes = math.prod(extent or 1 for extent in tensor.shape) * ITEM_BYTES[tensor.dtype]
    if num_bytes > MAX_BYTES or max(tensor.stride, default=0) > MAX_BYTES:
        raise BadCheckpointError(f"tensor {name!r}: shape or stride beyond 63 bits")
    if tensor.empty:
        if tensor.partition or tensor.begin_bytes or tensor.size_bytes:
            raise BadCheckpointError(f"tensor {name!r}: it has no elements and must have no bytes")
        return
    _check_span(tensor)


def _check_span(tensor: TensorEntry) -> None:
    view = tensor.view_offset_bytes
    span = span_bytes(tensor.dtype, tensor.shape, tensor.stride)
    if view < 0 or view % ITEM_BYTES[tensor.dtype]:
        raise BadCheckpointError(
            f"tensor {tensor.name!r}: view_offset {view} is not a multiple of the item size"
        )
    if tensor.offset_bytes < 0 or view + span > tensor.size_bytes:
        raise BadCheckpointError(
            f"tensor {tensor.name!r}: elements reach byte {view + span} of a storage of "
            f"{tensor.size_bytes}"
        )
