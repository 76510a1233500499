"""Headers of safetensors files, so that plain files load like our own format.

A file is  u64 length N | N bytes of JSON | data;  a tensor's `data_offsets` count from 8 + N.
Checks are strict: the tensors tile the data without holes, and each span has its shape's size.
"""

import math

import msgspec

from sllmreal.checkpoint.dtypes import ITEM_BYTES, SAFETENSORS_CODES
from sllmreal.checkpoint.errors import BadCheckpointError
from sllmreal.checkpoint.layout import TensorEntry, check_tensor, contiguous_stride
from sllmreal.checkpoint.opening import OpenedFile, read_exactly

MAX_HEADER_BYTES = 32 << 20  # safetensors allows 100 MB; headers in the wild stay below 20 MB
_METADATA = "__metadata__"


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


class SafetensorsHeader(msgspec.Struct, frozen=True):
    """The tensors of one file; offsets are absolute in the file."""

    metadata: dict[str, str]
    tensors: tuple[TensorEntry, ...]


def read_header(file: OpenedFile, name: str, partition: int) -> SafetensorsHeader:
    """Read the header of an open safetensors file, which becomes partition number `partition`.

    Raises BadCheckpointError unless every rule holds, StorageError if a disk fails.
    """
    if file.size_bytes < 8:
        raise BadCheckpointError(
            f"{name}: a safetensors file has at least 8 bytes, this one {file.size_bytes}"
        )
    header_bytes = int.from_bytes(read_exactly(file, 8, 0, name), "little")
    if not 2 <= header_bytes <= min(MAX_HEADER_BYTES, file.size_bytes - 8):
        raise BadCheckpointError(f"{name}: its header cannot have {header_bytes} bytes")
    raw = read_exactly(file, header_bytes, 8, name)
    return parse_header(raw, file.size_bytes, name, partition)


def parse_header(raw: bytes, file_bytes: int, name: str, partition: int) -> SafetensorsHeader:
    """Parse the JSON of a header. Raises BadCheckpointError unless every rule holds."""
    if raw[:1] != b"{":
        raise BadCheckpointError(f"{name}: the header does not begin with '{{'")
    try:
        entries = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        metadata = msgspec.json.decode(entries.pop(_METADATA, b"{}"), type=dict[str, str])
        decoder = msgspec.json.Decoder(_Entry)
        parsed = {key: decoder.decode(entry) for key, entry in entries.items()}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadCheckpointError(f"{name}: the header is malformed: {error}") from error
    base_bytes = 8 + len(raw)
    tensors = [
        _tensor(key, entry, partition, base_bytes)
        for key, entry in sorted(parsed.items(), key=lambda item: item[1].data_offsets)
    ]
    _check_tiling(parsed, file_bytes - base_bytes, name)
    return SafetensorsHeader(metadata, tuple(tensors))


def _tensor(name: str, entry: _Entry, partition: int, base_bytes: int) -> TensorEntry:
    dtype = SAFETENSORS_CODES.get(entry.dtype)
    if dtype is None:
        raise BadCheckpointError(f"tensor {name[:80]!r}: unknown dtype {entry.dtype[:40]!r}")
    shape = entry.shape
    if entry.dtype == "F4":  # shapes count elements, two per byte along the last dimension
        if not shape or shape[-1] % 2:
            raise BadCheckpointError(f"tensor {name[:80]!r}: F4 needs an even last dimension")
        shape = (*shape[:-1], shape[-1] // 2)
    begin, end = entry.data_offsets
    if any(extent < 0 for extent in shape) or begin < 0:
        raise BadCheckpointError(f"tensor {name[:80]!r}: negative shape or offset")
    size_bytes = math.prod(shape) * ITEM_BYTES[dtype]
    if end - begin != size_bytes:
        raise BadCheckpointError(
            f"tensor {name[:80]!r}: it has {end - begin} bytes, its shape needs {size_bytes}"
        )
    empty = size_bytes == 0
    tensor = TensorEntry(
        name=name,
        partition=0 if empty else partition,
        offset_bytes=0 if empty else base_bytes + begin,
        size_bytes=size_bytes,
        dtype=dtype,
        shape=shape,
        stride=contiguous_stride(shape),
    )
    check_tensor(tensor)
    return tensor


def _check_tiling(entries: dict[str, _Entry], data_bytes: int, name: str) -> None:
    end_bytes = 0
    for begin, end in sorted(entry.data_offsets for entry in entries.values()):
        if begin != end_bytes:
            raise BadCheckpointError(
                f"{name}: a tensor begins at {begin}, the one before ends at {end_bytes}"
            )
        end_bytes = end
    if end_bytes != data_bytes:
        raise BadCheckpointError(
            f"{name}: the tensors end at {end_bytes}, the data at {data_bytes}"
        )
