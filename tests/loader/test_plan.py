"""Plans contain each wanted chunk once, in order, and no resident chunk."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sllmcore.errors import UsageError
from sllmreal.checkpoint.layout import Layout, Partition, TensorEntry
from sllmreal.loader.plan import ByteRange, ChunkKey, ChunkRead, plan_load

CHUNK = 16384


def tensor(name: str, partition: int, offset: int, size: int) -> TensorEntry:
    return TensorEntry(
        name=name,
        partition=partition,
        offset_bytes=offset,
        size_bytes=size,
        dtype="int8",
        shape=(size,),
        stride=(1,),
    )


LAYOUT = Layout(
    Path("x"),
    "id",
    (Partition("a", 40960), Partition("b", 20480)),
    (tensor("t0", 0, 0, 20000), tensor("t1", 0, 20032, 20000), tensor("t2", 1, 0, 20480)),
)


def test_a_plan_reads_every_chunk_once_in_order() -> None:
    plan = plan_load(LAYOUT, CHUNK)

    assert plan.reads == (
        ChunkRead(ChunkKey(0, 0), 0, 16384),
        ChunkRead(ChunkKey(0, 1), 16384, 16384),
        ChunkRead(ChunkKey(0, 2), 32768, 8192),
        ChunkRead(ChunkKey(1, 0), 0, 16384),
        ChunkRead(ChunkKey(1, 1), 16384, 4096),
    )
    assert plan.needs == ((0, 1), (1, 2), (3, 4))


def test_partitions_for_several_devices_are_read_in_turns() -> None:
    plan = plan_load(LAYOUT, CHUNK, interleaved=True)

    assert [(read.key.partition, read.key.number) for read in plan.reads] == [
        (0, 0), (1, 0), (0, 1), (1, 1), (0, 2),
    ]  # fmt: skip


def test_resident_chunks_are_not_read_again() -> None:
    resident = {ChunkKey(0, 0), ChunkKey(0, 1), ChunkKey(1, 1)}

    plan = plan_load(LAYOUT, CHUNK, resident=resident)

    assert [read.key for read in plan.reads] == [ChunkKey(0, 2), ChunkKey(1, 0)]
    assert plan.needs == ((), (0,), (1,))


def test_only_wanted_ranges_are_read() -> None:
    wanted = [[ByteRange(0, 17000, 18000)], [], [ByteRange(1, 0, 1)]]

    plan = plan_load(LAYOUT, CHUNK, wanted)

    assert [read.key for read in plan.reads] == [ChunkKey(0, 1), ChunkKey(1, 0)]
    assert plan.needs == ((0,), None, (1,))


@pytest.mark.parametrize("chunk_bytes", [0, -4096, 1000, 4097])
def test_a_chunk_of_no_whole_blocks_is_refused(chunk_bytes: int) -> None:
    with pytest.raises(UsageError, match="chunk_bytes"):
        plan_load(LAYOUT, chunk_bytes)


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(1, 100_000), min_size=1, max_size=20),
    chunk_bytes=st.sampled_from([4096, 8192, 65536]),
    resident=st.sets(st.integers(0, 30)),
)
def test_any_plan_reads_exactly_the_missing_chunks(
    sizes: list[int], chunk_bytes: int, resident: set[int]
) -> None:
    tensors = []
    offset = 0
    for number, size in enumerate(sizes):
        tensors.append(tensor(f"t{number}", 0, offset, size))
        offset += -(-size // 64) * 64
    size_bytes = -(-offset // 4096) * 4096
    layout = Layout(Path("x"), "id", (Partition("a", size_bytes),), tuple(tensors))
    keys = {ChunkKey(0, number) for number in resident}

    plan = plan_load(layout, chunk_bytes, resident=keys)

    read = {read.key for read in plan.reads}
    assert len(read) == len(plan.reads)
    assert read.isdisjoint(keys)
    covered = read | keys
    for entry, needs in zip(tensors, plan.needs, strict=True):
        first = entry.offset_bytes // chunk_bytes
        last = (entry.offset_bytes + entry.size_bytes - 1) // chunk_bytes
        chunks = {ChunkKey(0, number) for number in range(first, last + 1)}
        assert chunks <= covered
        assert needs is not None
        assert {plan.reads[position].key for position in needs} == chunks - keys
