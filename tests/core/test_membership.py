"""Servers and models that join and leave in an orderly way."""

import pytest

from sllmcore.build import PolicySettings
from sllmcore.commands import EvictCopy, LaunchInstance, RejectRequest, StartRequest, StopInstance
from sllmcore.errors import UsageError
from sllmcore.events import (
    InferenceFinished,
    InferenceStopped,
    LoadFinished,
    ModelDeleted,
    ModelDeployed,
    ServerDraining,
    ServerJoined,
    ServerLost,
)
from sllmcore.types import Checkpoint, LoadEstimate, StorageTier
from tests.builders import Bench, bench_of, in_dram, on_ssd, spec_of

A, B = Checkpoint("A", 16), Checkpoint("B", 16)
FROM_DRAM = LoadEstimate(StorageTier.DRAM, 0.0, 1.0, 0.0)


def bench(policy: str = "serverlessllm") -> Bench:
    resident = (in_dram("A", 16), in_dram("B", 16))
    return bench_of(PolicySettings(name=policy), [A, B], [(spec_of("s0"), resident)])


def loaded(instance_id: str) -> LoadFinished:
    return LoadFinished(
        instance_id=instance_id,
        source=StorageTier.DRAM,
        num_bytes=16,
        transfer_s=1.0,
        startup_s=0.0,
    )


def test_a_request_for_a_model_that_is_not_deployed_is_rejected() -> None:
    assert bench().arrive(1, "Z") == [RejectRequest(1, "r1", "model Z is not deployed")]


def test_a_server_that_joins_takes_a_waiting_request() -> None:
    one = bench_of(PolicySettings(), [A], [])
    before = one.arrive(1, "A", 0.0)

    joined = one.handle(ServerJoined(spec_of("s0"), (in_dram("A", 16),)), 5.0)

    assert before == []
    assert joined == [
        LaunchInstance(
            id=1,
            instance_id="i1",
            model="A",
            server_id="s0",
            gpu_indices=(0,),
            estimate=FROM_DRAM,
            cache_in=(),
            after=None,
        )
    ]


def test_a_server_cannot_join_twice() -> None:
    with pytest.raises(UsageError, match="s0"):
        bench().handle(ServerJoined(spec_of("s0")))


def test_a_server_cannot_join_with_models_that_exceed_its_tiers() -> None:
    with pytest.raises(UsageError, match="exceed"):
        bench().handle(ServerJoined(spec_of("s1", dram_bytes=8), (in_dram("A", 16),)))


def test_requests_on_a_draining_server_finish_and_then_its_instances_stop() -> None:
    one = bench()
    one.arrive(1, "A")
    one.handle(loaded("i1"), 1.0)

    drained = one.handle(ServerDraining("s0"), 2.0)
    waits = one.arrive(2, "A", 3.0)
    ended = one.handle(InferenceFinished("r1", "i1", 15, 1.5), 5.0)

    assert drained == []
    assert waits == []
    assert ended == [StopInstance(3, "i1")]


def test_an_idle_instance_on_a_draining_server_stops_at_once() -> None:
    one = bench()
    one.arrive(1, "A")
    one.handle(loaded("i1"), 1.0)
    one.handle(InferenceFinished("r1", "i1", 15, 1.5), 5.0)

    assert one.handle(ServerDraining("s0"), 6.0) == [StopInstance(3, "i1")]


def test_a_reserved_instance_never_loads_on_a_draining_server() -> None:
    # r2 has preempted r1; before r1 has stopped, the server drains.
    one = bench_of(
        PolicySettings(name="shepherd"),
        [A, B],
        [
            (spec_of("s0"), (in_dram("A", 16), in_dram("B", 16))),
            (spec_of("s1"), (on_ssd("A", 16),)),
        ],
    )
    one.arrive(1, "A")
    one.handle(loaded("i1"), 1.0)
    one.arrive(2, "B", 2.0)

    one.handle(ServerDraining("s0"), 2.25)
    stopped = one.handle(InferenceStopped("r1", "i1", 1), 2.5)

    loads = [c for _, _, commands in one.log for c in commands if isinstance(c, LaunchInstance)]
    assert [(load.model, load.server_id) for load in loads] == [("A", "s0"), ("B", "s1")]
    assert stopped == [StopInstance(5, "i1")]


def test_a_request_parked_at_a_draining_server_starts_elsewhere() -> None:
    one = bench_of(
        PolicySettings(name="locality"),
        [A, B],
        [(spec_of("s0"), (in_dram("A", 16), in_dram("B", 16))), (spec_of("s1"), ())],
    )
    one.arrive(1, "A")
    one.handle(loaded("i1"), 1.0)
    waits = one.arrive(2, "B", 2.0)

    drained = one.handle(ServerDraining("s0"), 3.0)

    assert waits == []
    assert [(c.model, c.server_id) for c in drained if isinstance(c, LaunchInstance)] == [
        ("B", "s1")
    ]


def test_deleting_a_model_rejects_waiting_requests_and_lets_running_ones_finish() -> None:
    one = bench()
    one.arrive(1, "A")
    one.handle(loaded("i1"), 1.0)
    one.arrive(2, "A", 2.0)

    deleted = one.handle(ModelDeleted("A"), 3.0)
    ended = one.handle(InferenceFinished("r1", "i1", 15, 1.5), 5.0)

    assert deleted == [
        EvictCopy(id=3, server_id="s0", tier=StorageTier.DRAM, model="A", keep_bytes=0),
        RejectRequest(4, "r2", "model A is not deployed"),
    ]
    assert ended == [StopInstance(5, "i1")]


def test_a_request_of_a_deleted_model_that_loses_its_server_is_rejected() -> None:
    one = bench()
    one.arrive(1, "A")
    one.handle(loaded("i1"), 1.0)
    one.handle(ModelDeleted("A"), 2.0)

    assert one.handle(ServerLost("s0"), 3.0) == [RejectRequest(4, "r1", "model A is not deployed")]


def test_a_deleted_model_may_be_deployed_again() -> None:
    one = bench()
    one.handle(ModelDeleted("A"))

    one.handle(ModelDeployed(A))

    assert [type(c) for c in one.arrive(1, "A")] == [LaunchInstance]


def test_a_model_name_cannot_get_another_checkpoint() -> None:
    with pytest.raises(UsageError, match="cannot become"):
        bench().handle(ModelDeployed(Checkpoint("A", 17)))


def test_an_instance_has_at_least_one_slot() -> None:
    with pytest.raises(UsageError, match="num_slots"):
        bench().handle(ModelDeployed(Checkpoint("C", 1), 0))


def test_a_request_id_cannot_arrive_twice() -> None:
    one = bench()
    one.arrive(1, "A")

    with pytest.raises(Exception, match="r1 has arrived already"):
        one.arrive(1, "A")


def test_all_slots_are_filled_before_another_instance_is_launched() -> None:
    one = bench_of(PolicySettings(), [A], [(spec_of("s0", 2), (in_dram("A", 16),))], num_slots=2)
    one.arrive(1, "A")
    one.handle(loaded("i1"), 1.0)

    second, third = one.arrive(2, "A", 2.0), one.arrive(3, "A", 2.0)

    assert second == [StartRequest(3, "r2", "i1", 1)]
    assert third == [
        LaunchInstance(
            id=4,
            instance_id="i2",
            model="A",
            server_id="s0",
            gpu_indices=(1,),
            estimate=FROM_DRAM,
            cache_in=(),
            after=None,
        )
    ]
