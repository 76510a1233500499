"""Loading time: queue plus bytes over the slowest stage, learnt from finished loads."""

import pytest

from sllmcore.errors import UsageError
from sllmcore.estimator import BandwidthEstimator, declared_bytes_per_s
from sllmcore.events import LoadFinished
from sllmcore.types import Checkpoint, LoadEstimate, Residency, StorageTier
from tests.builders import in_dram, on_ssd, spec_of, state_of

REMOTE, SSD, DRAM = StorageTier.REMOTE, StorageTier.SSD, StorageTier.DRAM
A = Checkpoint("A", 32)
WIDE = Checkpoint("W", 32, 2)


def estimate(
    *resident: Residency, checkpoint: Checkpoint = A, estimator: BandwidthEstimator | None = None
) -> LoadEstimate:
    state = state_of([(spec_of("s0", 2), resident)], [checkpoint])
    estimator = estimator or BandwidthEstimator()
    return estimator.estimate(checkpoint, state.servers["s0"], now_s=0.0)


def finished(
    source: StorageTier, num_bytes: int, transfer_s: float, startup_s: float = 0.0
) -> LoadFinished:
    return LoadFinished(
        instance_id="i1",
        source=source,
        num_bytes=num_bytes,
        transfer_s=transfer_s,
        startup_s=startup_s,
    )


def taught(*loads: LoadFinished, checkpoint: Checkpoint = A) -> BandwidthEstimator:
    """Return an estimator with smoothing 1/2 that has observed these loads on s0."""
    estimator = BandwidthEstimator(smoothing=0.5)
    state = state_of([(spec_of("s0", 2), ())], [checkpoint])
    for load in loads:
        estimator.observe(checkpoint, state.servers["s0"], load.source, load)
    return estimator


@pytest.mark.parametrize(
    ("resident", "expected"),
    [
        ((), LoadEstimate(REMOTE, 0.0, 32 / 4, 0.0)),
        ((on_ssd("A", 32),), LoadEstimate(SSD, 0.0, 32 / 8, 0.0)),
        ((in_dram("A", 32),), LoadEstimate(DRAM, 0.0, 32 / 16, 0.0)),
        ((in_dram("A", 32), on_ssd("A", 32)), LoadEstimate(DRAM, 0.0, 32 / 16, 0.0)),
        # half on SSD: 16 bytes over the network in 4 s, all 32 past the SSD's stage in 4 s
        ((on_ssd("A", 16),), LoadEstimate(REMOTE, 0.0, 4.0, 0.0)),
        # a quarter missing: 8 bytes in 2 s, but all 32 past the SSD's stage in 4 s
        ((on_ssd("A", 24),), LoadEstimate(REMOTE, 0.0, 4.0, 0.0)),
        # half in DRAM, the rest on SSD: 16 in 2 s, all 32 into the GPU in 2 s
        ((in_dram("A", 16), on_ssd("A", 32)), LoadEstimate(SSD, 0.0, 2.0, 0.0)),
        # nearly all in DRAM: the copy into the GPU is the slowest stage
        ((in_dram("A", 28), on_ssd("A", 32)), LoadEstimate(SSD, 0.0, 2.0, 0.0)),
        ((in_dram("A", 16),), LoadEstimate(REMOTE, 0.0, 16 / 4, 0.0)),
        # a quarter each: 16 bytes from remote in 4 s, 24 past the SSD in 3 s, 32 into the GPU
        ((in_dram("A", 8), on_ssd("A", 8)), LoadEstimate(REMOTE, 0.0, 4.0, 0.0)),
    ],
)
def test_the_nearest_bytes_and_the_slowest_stage_make_the_estimate(
    resident: tuple[Residency, ...], expected: LoadEstimate
) -> None:
    assert estimate(*resident) == expected


def test_an_instance_on_two_gpus_loads_over_both_their_links() -> None:
    assert estimate(in_dram("W", 32), checkpoint=WIDE).transfer_s == 32 / (2 * 16)
    assert estimate(on_ssd("W", 32), checkpoint=WIDE).transfer_s == 32 / 8


def test_a_slow_gpu_link_bounds_every_source() -> None:
    spec = spec_of("s0")

    assert [declared_bytes_per_s(spec, tier, 1) for tier in (REMOTE, SSD, DRAM)] == [4, 8, 16]


def test_loads_queued_on_the_same_path_come_first() -> None:
    state = state_of([(spec_of("s0"), (on_ssd("A", 32),))], [A])
    state.servers["s0"].queues[SSD].add("i1", 3.0, now_s=1.0)
    state.servers["s0"].queues[DRAM].add("i2", 9.0, now_s=1.0)

    estimated = BandwidthEstimator().estimate(A, state.servers["s0"], now_s=2.0)

    assert estimated == LoadEstimate(SSD, 2.0, 4.0, 0.0)
    assert estimated.total_s == 6.0


def test_a_finished_load_replaces_the_declared_bandwidth_and_later_ones_are_smoothed() -> None:
    once = taught(finished(SSD, 32, 8.0))
    twice = taught(finished(SSD, 32, 8.0), finished(SSD, 32, 4.0))

    assert estimate(on_ssd("A", 32), estimator=once).transfer_s == 8.0
    assert estimate(on_ssd("A", 32), estimator=twice).transfer_s == pytest.approx(32 / 6)


def test_a_bandwidth_is_learnt_per_tier_and_gpu_count_and_server() -> None:
    estimator = taught(finished(SSD, 32, 8.0))
    other = state_of([(spec_of("s1"), (on_ssd("A", 32),))], [A])

    assert estimate(in_dram("A", 32), estimator=estimator).transfer_s == 2.0
    assert estimate(on_ssd("W", 32), checkpoint=WIDE, estimator=estimator).transfer_s == 4.0
    assert estimator.estimate(A, other.servers["s1"], 0.0).transfer_s == 4.0


def test_a_load_of_a_part_teaches_no_bandwidth() -> None:
    estimator = taught(finished(SSD, 16, 8.0))

    assert estimate(on_ssd("A", 32), estimator=estimator).transfer_s == 4.0


def test_the_rest_of_a_cold_start_is_learnt_per_model() -> None:
    estimator = taught(finished(SSD, 32, 4.0, startup_s=3.0), finished(SSD, 32, 4.0, startup_s=5.0))

    assert estimate(on_ssd("A", 32), estimator=estimator).startup_s == 4.0
    assert estimate(checkpoint=WIDE, estimator=estimator).startup_s == 0.0


@pytest.mark.parametrize("smoothing", [0.0, -0.1, 1.1])
def test_smoothing_is_a_weight(smoothing: float) -> None:
    with pytest.raises(UsageError, match="smoothing"):
        BandwidthEstimator(smoothing)


def test_a_cold_start_takes_no_negative_time() -> None:
    with pytest.raises(UsageError, match="startup_s"):
        BandwidthEstimator(startup_s=-1.0)
