"""The arrangement of storages in partitions: pure arithmetic, from source tensors to a Layout.

Storages keep the given order, each at the next multiple of 64. A partition ends when it holds its
share,  total / num_partitions,  so that target GPUs load equal parts at the same time.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sllmreal.checkpoint.errors import BadCheckpointError
from sllmreal.checkpoint.layout import (
    BLOCK_BYTES,
    TENSOR_ALIGNMENT_BYTES,
    Layout,
    Partition,
    TensorEntry,
    align_up,
    span_bytes,
)

DEFAULT_CHUNK_BYTES = (
    4 << 20
)  # 16 bytes of hash per 4 MiB; a slice reads at most one chunk too many


@dataclass(frozen=True, slots=True)
class SourceTensor:
    """A tensor of a source: a view that begins `offset_bytes` into storage number `storage`."""

    name: str
    storage: int
    offset_bytes: int
    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of a source's storage, and their place in a partition."""

    storage: int
    source_offset_bytes: int
    offset_bytes: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Arrangement:
    """A layout without hashes, and the pieces of each partition, by offset."""

    layout: Layout
    pieces: tuple[tuple[Piece, ...], ...]


@dataclass(frozen=True, slots=True)
class _Span:
    """The part of a storage that its tensors use."""

    storage: int
    begin_bytes: int
    end_bytes: int


def arrange(
    tensors: Sequence[SourceTensor], path: Path, chunk_bytes: int, num_partitions: int
) -> Arrangement:
    """Lay out `tensors` in the given order; each storage once, trimmed to its used part.

    Raises BadCheckpointError unless `num_partitions` is in 1..1024.
    """
    if not 1 <= num_partitions <= 1024:
        raise BadCheckpointError(f"num_partitions must be in 1..1024, got {num_partitions}")
    spans = _used_spans(tensors)
    pieces = _placed(spans, num_partitions)
    where = {piece.storage: (number, piece) for number, part in enumerate(pieces) for piece in part}
    entries = [_entry(tensor, where) for tensor in tensors]
    entries.sort(key=lambda entry: (entry.partition, entry.offset_bytes))
    partitions = tuple(
        Partition(f"partition-{number:05d}.bin", _partition_bytes(part))
        for number, part in enumerate(pieces)
    )
    layout = Layout(
        path=path,
        identity="",
        partitions=partitions,
        tensors=tuple(entries),
        chunk_bytes=chunk_bytes,
    )
    return Arrangement(layout, tuple(tuple(part) for part in pieces))


def _used_spans(tensors: Sequence[SourceTensor]) -> list[_Span]:
    spans: dict[int, _Span] = {}
    for tensor in tensors:
        size_bytes = span_bytes(tensor.dtype, tensor.shape, tensor.stride)
        if size_bytes == 0:
            continue
        # Rounded down to a cache line: views of other widths in this storage stay aligned.
        begin = tensor.offset_bytes // TENSOR_ALIGNMENT_BYTES * TENSOR_ALIGNMENT_BYTES
        end = tensor.offset_bytes + size_bytes
        known = spans.get(tensor.storage, _Span(tensor.storage, begin, end))
        spans[tensor.storage] = replace(
            known, begin_bytes=min(begin, known.begin_bytes), end_bytes=max(end, known.end_bytes)
        )
    return list(spans.values())


def _placed(spans: Sequence[_Span], num_partitions: int) -> list[list[Piece]]:
    total = sum(align_up(span.end_bytes - span.begin_bytes, 64) for span in spans)
    pieces: list[list[Piece]] = [[]]
    offset = 0
    done = 0
    for span in spans:
        size = span.end_bytes - span.begin_bytes
        share_end = total * len(pieces) // num_partitions
        # The span goes where more than half of it belongs.
        if pieces[-1] and done + size // 2 >= share_end and len(pieces) < num_partitions:
            pieces.append([])
            offset = 0
        pieces[-1].append(Piece(span.storage, span.begin_bytes, offset, size))
        offset = align_up(offset + size, TENSOR_ALIGNMENT_BYTES)
        done += align_up(size, TENSOR_ALIGNMENT_BYTES)
    return pieces


def _partition_bytes(pieces: Sequence[Piece]) -> int:
    return align_up(pieces[-1].offset_bytes + pieces[-1].size_bytes, BLOCK_BYTES) if pieces else 0


def _entry(tensor: SourceTensor, where: dict[int, tuple[int, Piece]]) -> TensorEntry:
    if span_bytes(tensor.dtype, tensor.shape, tensor.stride) == 0:
        return TensorEntry(
            name=tensor.name,
            partition=0,
            offset_bytes=0,
            size_bytes=0,
            dtype=tensor.dtype,
            shape=tensor.shape,
            stride=tensor.stride,
        )
    number, piece = where[tensor.storage]
    return TensorEntry(
        name=tensor.name,
        partition=number,
        offset_bytes=piece.offset_bytes,
        size_bytes=piece.size_bytes,
        dtype=tensor.dtype,
        shape=tensor.shape,
        stride=tensor.stride,
        view_offset_bytes=tensor.offset_bytes - piece.source_offset_bytes,
    )
