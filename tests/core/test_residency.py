"""Keep-alives, copies in cache tiers, and evictions by least recent use."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sllmcore.cluster.instance import Instance
from sllmcore.errors import UsageError
from sllmcore.residency import LruResidency
from sllmcore.types import StorageTier

REMOTE, SSD, DRAM = StorageTier.REMOTE, StorageTier.SSD, StorageTier.DRAM
SIZES = st.lists(st.integers(1, 9), max_size=8)


def instance(load_s: float) -> Instance:
    loaded = Instance(instance_id="i1", model="A", server_id="s0", gpu_indices=(0,), slots=1)
    loaded.load_s = load_s
    return loaded


def test_whole_models_are_evicted_least_recently_used_first() -> None:
    evictable = [("a", 3), ("b", 4), ("c", 5)]

    assert LruResidency().evictions(evictable, 4) == [("a", 0), ("b", 0)]


def test_partial_eviction_frees_only_the_bytes_needed() -> None:
    evictable = [("a", 3), ("b", 4), ("c", 5)]

    assert LruResidency(partial=True).evictions(evictable, 4) == [("a", 0), ("b", 3)]


def test_nothing_is_evicted_if_it_would_not_be_enough() -> None:
    assert LruResidency().evictions([("a", 3)], 4) is None


@given(SIZES, st.integers(1, 40), st.booleans())
def test_evictions_free_enough_and_partial_ones_exactly_enough(
    sizes: list[int], needed: int, partial: bool
) -> None:
    evictable = [(f"m{i}", size) for i, size in enumerate(sizes)]

    chosen = LruResidency(partial=partial).evictions(evictable, needed)

    if sum(sizes) < needed:
        assert chosen is None
        return
    assert chosen is not None
    freed = [dict(evictable)[model] - keep for model, keep in chosen]
    assert sum(freed) == needed if partial else sum(freed) >= needed > sum(freed[:-1])
    assert [model for model, _ in chosen] == [model for model, _ in evictable[: len(chosen)]]


def test_loads_leave_copies_in_the_caching_tiers_nearer_than_their_source() -> None:
    assert LruResidency().cache_in(REMOTE) == (DRAM, SSD)
    assert LruResidency().cache_in(SSD) == (DRAM,)
    assert LruResidency().cache_in(DRAM) == ()
    assert LruResidency(caches_dram=False).cache_in(REMOTE) == (SSD,)
    assert LruResidency(caches_ssd=False).cache_in(REMOTE) == (DRAM,)


def test_a_keep_alive_is_unlimited_a_time_or_a_multiple_of_the_load() -> None:
    assert LruResidency().instance_keep_alive_s(instance(4.0)) is None
    assert LruResidency(keep_alive_s=7.0).instance_keep_alive_s(instance(4.0)) == 7.0
    assert LruResidency(keep_alive_load_factor=2.0).instance_keep_alive_s(instance(4.0)) == 8.0


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(UsageError, match="not both"):
        LruResidency(keep_alive_s=1.0, keep_alive_load_factor=1.0)
    with pytest.raises(UsageError, match="reclaimable"):
        LruResidency(reclaims_idle=False)
    with pytest.raises(UsageError, match="negative"):
        LruResidency(keep_alive_s=-1.0)
