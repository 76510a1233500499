"""Filling the pool with a checkpoint: what is resident stays, what is missing gets chunks."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from sllmreal.checkpoint.layout import Layout
from sllmreal.loader.ledger import ResidentChunk
from sllmreal.loader.plan import ByteRange, ChunkKey, LoadPlan, plan_load
from sllmreal.loader.pool import ChunkPool

Check = Callable[[LoadPlan, Mapping[ChunkKey, int]], Collection[ChunkKey]]
"""Which chunks of a plan of everything wanted, resident in the pool's chunks given, are spoilt."""


@dataclass(frozen=True, slots=True)
class Fill:
    """A plan, the pool chunk of each wanted chunk, and what has landed so far (added to).

    Positions `in_place` of the plan were resident before.
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
    through: bool,
    keep_landed: bool,
    check: Check | None = None,
) -> Iterator[Fill]:
    """A reservation for what is missing of `layout`, committed when the context ends well.

    `through`: resident chunks are in the plan too, for they pass on to a device. On an error the
    chunks go back to the pool; with `keep_landed` only those that have not landed. What `check`
    finds spoilt is missing as well, and keeps its chunk of the pool.
    """
    with ExitStack() as stack:
        stack.enter_context(pool.pinned(layout.identity))
        stack.enter_context(pool.loading())
        resident = pool.resident(layout.identity)
        if check is not None and resident:
            wanted = plan_load(layout, pool.chunk_bytes, ranges)
            pool.spoil(layout.identity, check(wanted, resident))
            resident = pool.resident(layout.identity)
        spoilt = pool.spoilt(layout.identity)
        known = () if through else resident.keys()
        plan = plan_load(layout, pool.chunk_bytes, ranges, known, interleaved=through)
        missing = [read for read in plan.reads if read.key not in resident]
        new = [read.key for read in missing if read.key not in spoilt]
        reservation = stack.enter_context(pool.reserved(len(new)))
        places = spoilt | dict(zip(new, reservation.chunks, strict=True))
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
