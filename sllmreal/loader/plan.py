"""The plan of a load: which chunks to read, in which order. Pure arithmetic over a layout.

A partition is cut into chunks  [i * chunk_bytes, (i + 1) * chunk_bytes).  A load reads the chunks
that hold a wanted byte and are not resident, in the order of the model's execution.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

from sllmcore.errors import UsageError
from sllmreal.checkpoint.layout import BLOCK_BYTES, Layout, TensorEntry

DEFAULT_CHUNK_BYTES = 16 << 20  # large enough for a disk's best rate, small enough to overlap


@dataclass(frozen=True, slots=True)
class ChunkKey:
    """Chunk number `number` of a partition."""

    partition: int
    number: int


@dataclass(frozen=True, slots=True)
class ChunkRead:
    """A read of a whole chunk, which is shorter only at a partition's end."""

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
    """The reads of a load, in order.

    `needs[t]` are the positions in `reads` that tensor t of the layout waits for; empty if its
    bytes are resident, None if none of its bytes is wanted.
    """

    layout: Layout
    chunk_bytes: int
    reads: tuple[ChunkRead, ...]
    needs: tuple[tuple[int, ...] | None, ...]

    @property
    def size_bytes(self) -> int:
        """Sum of all reads."""
        return sum(read.size_bytes for read in self.reads)


def tensor_range(tensor: TensorEntry) -> ByteRange:
    """Return the range of a tensor's whole storage, which tied tensors share."""
    return ByteRange(tensor.partition, tensor.offset_bytes, tensor.offset_bytes + tensor.size_bytes)


def plan_load(
    layout: Layout,
    chunk_bytes: int = DEFAULT_CHUNK_BYTES,
    wanted: Sequence[Sequence[ByteRange]] | None = None,
    resident: Collection[ChunkKey] = frozenset(),
    interleaved: bool = False,
) -> LoadPlan:
    """Plan a load of `layout`.

    `wanted[t]` are the ranges that tensor t needs; None: all bytes of all tensors. With
    `interleaved`, the reads take partitions in turn, because each goes to a device of its own.
    Raises UsageError for a `chunk_bytes` that does not fit the layout.
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


class Arrivals:
    """Counts of the chunks that each tensor of a plan waits for; at zero the tensor is complete."""

    def __init__(self, plan: LoadPlan, complete: Callable[[int], None]) -> None:
        self._complete = complete
        self._missing = [len(need) if need is not None else None for need in plan.needs]
        self._waiting: list[list[int]] = [[] for _ in plan.reads]
        for tensor, need in enumerate(plan.needs):
            for position in need or ():
                self._waiting[position].append(tensor)

    def begin(self) -> None:
        """Complete the tensors that wait for no chunk: resident already, or without elements."""
        for tensor, missing in enumerate(self._missing):
            if missing == 0:
                self._complete(tensor)

    def land(self, position: int) -> None:
        """Count a read of the plan that is in place and verified."""
        for tensor in self._waiting[position]:
            missing = self._missing[tensor]
            assert missing, "a chunk lands once"
            self._missing[tensor] = missing - 1
            if missing == 1:
                self._complete(tensor)


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
