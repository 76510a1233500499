"""What the controller should do and does not do yet: each test says what it would take."""

import pytest

from sllmcore.build import PolicySettings
from sllmcore.commands import Load
from sllmcore.events import LoadFinished, ServerJoined
from sllmcore.types import Checkpoint, StorageTier
from tests.builders import bench_of, in_dram, spec_of

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
