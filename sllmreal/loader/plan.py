"""Which bytes to read, in which order: pure arithmetic over a layout, before any I/O.

A partition is cut into chunks  [i * chunk_bytes, (i + 1) * chunk_bytes).  A load takes the chunks
that hold a wanted byte and are not resident yet, in the order in which the model runs.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

from sllmcore.errors import UsageError
from sllmreal.checkpoint.layout import BLOCK_BYTES, Layout, TensorEntry

DEFAULT_CHUNK_BYTES = 16 << 20  # large enough for any disk's best, small enough to overlap


@dataclass(frozen=True, slots=True)
class ChunkKey:
    """Chunk number `number` of a partition."""

    partition: int
    number: int


@dataclass(frozen=True, slots=True)
class ChunkRead:
    """One read: a whole chunk, shorter only at a partition's end."""

    key: ChunkKey
    offset_bytes: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ByteRange:
    """`[begin_bytes, end_bytes)` of a partition."""

    partition: int
    begin_bytes: int
    end_bytes: int


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """Reads in order. `needs[t]` are the positions in `reads` that tensor t of the layout awaits,
    empty where its bytes are resident; None where no byte of it is wanted."""

    layout: Layout
    chunk_bytes: int
    reads: tuple[ChunkRead, ...]
    needs: tuple[tuple[int, ...] | None, ...]

    @property
    def size_bytes(self) -> int:
        return sum(read.size_bytes for read in self.reads)


def tensor_range(tensor: TensorEntry) -> ByteRange:
    """The bytes of the storage a tensor views: tied tensors share them, so all of it is loaded."""
    return ByteRange(tensor.partition, tensor.offset_bytes, tensor.offset_bytes + tensor.size_bytes)


def plan_load(
    layout: Layout,
    chunk_bytes: int = DEFAULT_CHUNK_BYTES,
    wanted: Sequence[Sequence[ByteRange]] | None = None,
    resident: Collection[ChunkKey] = frozenset(),
    interleaved: bool = False,
) -> LoadPlan:
    """Plan a load of `layout`. `wanted[t]` are the ranges that tensor t needs; None wants all.

    `interleaved` takes partitions in turns, for one device each, instead of one after another.
    """
    check_chunk_bytes(chunk_bytes, layout)
    ranges = wanted if wanted is not None else [[tensor_range(t)] for t in layout.tensors]
    per_tensor = [_keys(spans, chunk_bytes) for spans in ranges]
    missing = set(chain.from_iterable(per_tensor)).difference(resident)
    ordered = _in_turns(missing) if interleaved else sorted(missing, key=_place)
    positions = {key: position for position, key in enumerate(ordered)}
    needs = tuple(
        tuple(positions[key] for key in keys if key in positions)
        if wanted is None or spans
        else None
        for keys, spans in zip(per_tensor, ranges, strict=True)
    )
    reads = tuple(_read(layout, key, chunk_bytes) for key in ordered)
    return LoadPlan(layout, chunk_bytes, reads, needs)


def check_chunk_bytes(chunk_bytes: int, layout: Layout) -> None:
    """Raise UsageError unless chunks are whole blocks and hold whole hashed chunks."""
    step = layout.chunk_bytes or BLOCK_BYTES
    if chunk_bytes <= 0 or chunk_bytes % step:
        raise UsageError(f"chunk_bytes must be a multiple of {step}, got {chunk_bytes}")


def _keys(spans: Iterable[ByteRange], chunk_bytes: int) -> list[ChunkKey]:
    return [
        ChunkKey(span.partition, number)
        for span in spans
        if span.end_bytes > span.begin_bytes
        for number in range(span.begin_bytes // chunk_bytes, -(-span.end_bytes // chunk_bytes))
    ]


def _place(key: ChunkKey) -> tuple[int, int]:
    return key.partition, key.number


def _in_turns(keys: Collection[ChunkKey]) -> list[ChunkKey]:
    by_partition: dict[int, list[ChunkKey]] = {}
    for key in sorted(keys, key=_place):
        by_partition.setdefault(key.partition, []).append(key)
    turns = zip_longest(*by_partition.values())
    return [key for key in chain.from_iterable(turns) if key is not None]


def _read(layout: Layout, key: ChunkKey, chunk_bytes: int) -> ChunkRead:
    begin = key.number * chunk_bytes
    size_bytes = min(chunk_bytes, layout.partitions[key.partition].size_bytes - begin)
    return ChunkRead(key, begin, size_bytes)
