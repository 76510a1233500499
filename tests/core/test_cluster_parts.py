"""The data structures of the cluster state, against simple models of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sllmcore.cluster.indexed_set import IndexedSet
from sllmcore.cluster.load_queue import LoadQueue
from sllmcore.cluster.tier_cache import TierCache
from sllmcore.errors import ControlError, UsageError
from sllmcore.types import Checkpoint, Residency, StorageTier
from tests.builders import in_dram, on_ssd, spec_of, state_of

NAMES = st.sampled_from("abcdef")


@given(st.lists(st.tuples(st.booleans(), NAMES), max_size=40))
def test_an_indexed_set_is_a_set(steps: list[tuple[bool, str]]) -> None:
    ours, plain = IndexedSet(), set[str]()
    for adds, name in steps:
        (ours.add if adds else ours.discard)(name)
        (plain.add if adds else plain.discard)(name)

        assert set(ours) == plain and len(ours) == len(plain)
        assert {ours[i] for i in range(len(ours))} == plain
        assert all((name in ours) == (name in plain) for name in "abcdef")


@given(st.sets(NAMES), st.integers(1, 6), st.integers(0, 20))
def test_a_window_has_distinct_items_and_at_most_the_limit(
    names: set[str], limit: int, offset: int
) -> None:
    ours = IndexedSet()
    for name in sorted(names):
        ours.add(name)

    some = list(ours.window(limit, offset))

    assert len(some) == len(set(some)) == min(limit, len(names))
    assert set(some) <= names


def test_windows_at_all_offsets_cover_an_indexed_set() -> None:
    ours = IndexedSet()
    for name in "abcde":
        ours.add(name)

    assert {name for offset in range(5) for name in ours.window(1, offset)} == set("abcde")


def test_a_queue_waits_for_the_transfers_in_it() -> None:
    queue = LoadQueue()
    queue.add("i1", 4.0, now_s=10.0)
    queue.add("i2", 2.0, now_s=11.0)

    assert queue.wait_s(12.0) == 4.0
    assert queue.last == "i2"


def test_a_transfer_that_ends_early_shortens_the_wait_behind_it() -> None:
    queue = LoadQueue()
    queue.add("i1", 4.0, now_s=10.0)
    queue.add("i2", 2.0, now_s=10.0)

    queue.remove("i1", now_s=11.0)

    assert queue.wait_s(11.0) == 2.0


def test_a_transfer_that_never_began_takes_its_time_out_of_the_queue() -> None:
    queue = LoadQueue()
    queue.add("i1", 4.0, now_s=10.0)
    queue.add("i2", 2.0, now_s=10.0)

    queue.remove("i2", now_s=11.0)

    assert queue.wait_s(11.0) == 3.0
    assert queue.last == "i1"


def test_a_late_transfer_gives_no_negative_wait() -> None:
    queue = LoadQueue()
    queue.add("i1", 4.0, now_s=10.0)

    assert queue.wait_s(99.0) == 0.0


def test_removing_an_unknown_transfer_changes_nothing() -> None:
    queue = LoadQueue()
    queue.add("i1", 4.0, now_s=10.0)

    queue.remove("i9", now_s=11.0)

    assert queue.wait_s(11.0) == 3.0


def test_an_empty_queue_has_no_memory() -> None:
    queue = LoadQueue()
    queue.add("i1", 4.0, now_s=10.0)
    queue.remove("i1", now_s=20.0)

    queue.add("i2", 1.0, now_s=30.0)

    assert queue.wait_s(30.0) == 1.0


def test_concurrent_transfers_do_not_wait() -> None:
    queue = LoadQueue(sequential=False)
    queue.add("i1", 4.0, now_s=10.0)

    assert queue.wait_s(10.0) == 0.0
    assert queue.last is None


def test_a_tier_counts_present_and_reserved_bytes() -> None:
    cache = TierCache(10)
    cache.put("a", 4)
    cache.reserve("b", 5)

    assert (cache.used_bytes, cache.free_bytes) == (9, 1)
    assert (cache.resident_bytes("b"), cache.reserved("b")) == (0, True)


def test_reserved_bytes_are_added_to_the_present_ones() -> None:
    cache = TierCache(10)
    cache.put("a", 4)
    cache.reserve("a", 3)

    cache.fill("a")

    assert (cache.resident_bytes("a"), cache.used_bytes) == (7, 7)


def test_released_space_is_free_again() -> None:
    cache = TierCache(10)
    cache.reserve("a", 10)

    cache.release("a")

    assert (cache.free_bytes, cache.reserved("a")) == (10, False)


def test_bytes_that_do_not_fit_are_refused() -> None:
    cache = TierCache(10)
    cache.put("a", 4)

    with pytest.raises(ControlError, match="do not fit"):
        cache.reserve("b", 7)
    with pytest.raises(UsageError, match="exceed"):
        cache.put("b", 7)


def test_evictable_models_come_least_recently_used_first_without_those_in_use() -> None:
    cache = TierCache(10)
    for model in "abcd":
        cache.put(model, 2)
    cache.touch("a")
    cache.pin("b")
    cache.reserve("c", 1)

    assert list(cache.evictable()) == ["d", "a"]


def test_a_model_pinned_twice_is_evictable_after_two_unpins() -> None:
    cache = TierCache(10)
    cache.put("a", 2)
    cache.pin("a")
    cache.pin("a")

    cache.unpin("a")
    assert list(cache.evictable()) == []
    cache.unpin("a")
    assert list(cache.evictable()) == ["a"]


def test_a_pinned_model_cannot_be_evicted() -> None:
    cache = TierCache(10)
    cache.put("a", 2)
    cache.pin("a")

    with pytest.raises(ControlError, match="in use"):
        cache.evict("a", 0)


@pytest.mark.parametrize("keep", [0, 3])
def test_an_eviction_keeps_the_requested_bytes(keep: int) -> None:
    cache = TierCache(10)
    cache.put("a", 8)

    cache.evict("a", keep)

    assert (cache.resident_bytes("a"), cache.used_bytes) == (keep, keep)


def test_holders_are_found_by_tier_until_the_eviction() -> None:
    a = Checkpoint("A", 16)
    state = state_of(
        [(spec_of("s0"), (in_dram("A", 16),)), (spec_of("s1"), (on_ssd("A", 8),))], [a]
    )

    before = [
        [server.id for server in state.holders(tier, "A", 9)]
        for tier in (StorageTier.DRAM, StorageTier.SSD)
    ]
    state.evict(state.servers["s0"], StorageTier.DRAM, "A", 0)

    assert before == [["s0"], ["s1"]]
    assert list(state.holders(StorageTier.DRAM, "A", 9)) == []
    state.audit()


def test_servers_come_with_the_most_available_first() -> None:
    specs = [(spec_of(f"s{n}", n), ()) for n in (1, 3, 2)]
    state = state_of(specs, [])

    assert [server.id for server in state.servers_with(2, 9)] == ["s3", "s2"]
    assert state.num_servers_with(2) == 2
    assert {state.server_with(1, i).id for i in range(3)} == {"s1", "s2", "s3"}


def test_a_server_cannot_join_with_a_model_in_gpu_memory() -> None:
    with pytest.raises(UsageError, match="cannot be resident"):
        state_of([(spec_of("s0"), (Residency(StorageTier.GPU, "A", 1),))], [])
