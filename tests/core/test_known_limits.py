"""What the controller should do and does not do yet: each test says what it would take."""

import pytest

from sllmcore.build import PolicySettings
from sllmcore.commands import Load, Resume
from sllmcore.events import LoadFinished, MigrationFailed, ServerJoined
from sllmcore.residency import LruResidency
from sllmcore.types import Checkpoint, StorageTier
from tests.builders import bench_of, in_dram, on_ssd, spec_of

A, B = Checkpoint("A", 8), Checkpoint("B", 32)


@pytest.mark.xfail(
    strict=True, reason="a request that waits for named servers hears nothing of other servers"
)
def test_a_server_that_joins_with_a_copy_takes_who_waits_for_another_holder() -> None:
    bench = bench_of(
        PolicySettings(name="locality"),
        [A, B],
        [(spec_of("s0"), (in_dram("A", 8), in_dram("B", 32)))],
    )
    bench.arrive(1, "A", 0.0)
    bench.tell(LoadFinished("i1", StorageTier.DRAM, 8, 0.5, 0.0), 0.5)
    bench.arrive(2, "B", 1.0)

    joined = bench.tell(ServerJoined(spec_of("s1"), (in_dram("B", 32),)), 2.0)

    assert [(c.model, c.server_id) for c in joined if isinstance(c, Load)] == [("B", "s1")]


@pytest.mark.xfail(
    strict=True, reason="failed migrations are not counted, and nothing delays the next attempt"
)
def test_a_migration_that_has_failed_is_not_tried_again_at_the_same_instant() -> None:
    bench = bench_of(
        PolicySettings(residency=LruResidency(caches_dram=False)),
        [A, B],
        [(spec_of("s0"), (in_dram("A", 8), in_dram("B", 32))), (spec_of("s1"), (on_ssd("A", 8),))],
    )
    bench.arrive(1, "A", 0.0)
    bench.tell(LoadFinished("i1", StorageTier.DRAM, 8, 0.5, 0.0), 0.5)
    bench.arrive(2, "B", 2.0)
    bench.tell(LoadFinished("i2", StorageTier.SSD, 8, 1.0, 0.0), 3.0)

    failed = bench.tell(MigrationFailed("m1", "r1", "i2", "the network is down"), 3.0)

    assert not any(isinstance(c, Resume) for c in failed)
