"""Reservation of pool chunks for the missing part of a checkpoint."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from sllmreal.checkpoint.layout import Layout
from sllmreal.loader.ledger import ResidentChunk
from sllmreal.loader.plan import ByteRange, ChunkKey, LoadPlan, plan_load
from sllmreal.loader.pool import ChunkPool

Check = Callable[[LoadPlan, Mapping[ChunkKey, int]], Collection[ChunkKey]]
"""A function of the plan of all wanted chunks and the resident ones: returns the corrupt ones."""


@dataclass(frozen=True, slots=True)
class Fill:
    """A plan and its memory.

    Attributes:
        plan: The reads to do.
        chunks: The pool chunk of each wanted chunk.
        in_place: Positions in the plan that were resident before.
        landed: Chunks that are loaded and verified; the load adds to it.
    """

    plan: LoadPlan
    chunks: Mapping[ChunkKey, int] = field(default_factory=dict)
    in_place: frozenset[int] = frozenset()
    landed: set[ChunkKey] = field(default_factory=set)


@contextmanager
def filling(
    pool: ChunkPool,
    layout: Layout,
    ranges: Sequence[Sequence[ByteRange]] | None,
    *,
    to_device: bool,
    keep_landed: bool,
    check: Check | None = None,
) -> Iterator[Fill]:
    """Reserve chunks for the missing part of `layout`; commit them when the context succeeds.

    Args:
        pool: The pool.
        layout: The checkpoint.
        ranges: Wanted ranges of each tensor; None wants all bytes.
        to_device: Include resident chunks in the plan, because they are copied to a device.
        keep_landed: After an error, keep the chunks that have landed; else free all.
        check: Chunks that it finds corrupt are loaded again, into the same pool chunks.
    """
    with ExitStack() as stack:
        stack.enter_context(pool.in_use())
        stack.enter_context(pool.pinned(layout.identity))
        stack.enter_context(pool.loading())
        resident = pool.resident(layout.identity)
        if check is not None and resident:
            wanted = plan_load(layout, pool.chunk_bytes, ranges)
            pool.mark_corrupt(layout.identity, check(wanted, resident))
            resident = pool.resident(layout.identity)
        corrupt = pool.corrupt(layout.identity)
        known = () if to_device else resident.keys()
        plan = plan_load(layout, pool.chunk_bytes, ranges, known, interleaved=to_device)
        missing = [read for read in plan.reads if read.key not in resident]
        new = [read.key for read in missing if read.key not in corrupt]
        reservation = stack.enter_context(pool.reserved(len(new)))
        places = corrupt | dict(zip(new, reservation.chunks, strict=True))
        fresh = {read.key: ResidentChunk(places[read.key], read.size_bytes) for read in missing}
        chunks = resident | {key: one.chunk for key, one in fresh.items()}
        in_place = frozenset(
            number for number, read in enumerate(plan.reads) if read.key in resident
        )
        fill = Fill(plan, chunks, in_place)
        try:
            yield fill
        except BaseException:
            if keep_landed:
                kept = {key: one for key, one in fresh.items() if key in fill.landed}
                reservation.commit(layout.identity, kept)
            raise
        reservation.commit(layout.identity, fresh)
