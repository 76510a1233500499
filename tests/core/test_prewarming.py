"""Prewarming: the plans of WarmServe's subset and their execution by the controller.

Seeded bugs that these tests have caught: a prewarmed instance that ignores waiting requests when it
is ready; a plan that stops an instance with the same score as the new replica.
"""

from sllmcore.build import PolicySettings
from sllmcore.commands import Command, EvictCopy, LaunchInstance, StartRequest, StopInstance
from sllmcore.events import (
    InferenceFinished,
    LoadFinished,
    ModelDeleted,
    RequestCancelled,
    ServerDraining,
    WakeUp,
)
from sllmcore.prewarming import PrewarmSettings
from sllmcore.residency import LruResidency
from sllmcore.types import Checkpoint, StorageTier
from tests.builders import Bench, bench_of, in_dram, spec_of

A, B, C = Checkpoint("A", 8), Checkpoint("B", 8), Checkpoint("C", 32)
WINDOW_S = 64.0


def _bench(num_gpus: int, *models: Checkpoint, keep_alive_s: float | None = 1.0) -> Bench:
    """Return a bench with one server that has all models in DRAM."""
    policy = PolicySettings(
        name="warmserve",
        residency=LruResidency(keep_alive_s=keep_alive_s),
        prewarming=PrewarmSettings(WINDOW_S, 20 * WINDOW_S, 2),
    )
    resident = tuple(in_dram(model.model, model.size_bytes) for model in models)
    return bench_of(policy, models, [(spec_of("s0", num_gpus), resident)])


def _serve(bench: Bench, number: int, model: str, now_s: float, until_s: float) -> str:
    """Serve a request from its arrival to its end. Return the id of its instance."""
    commands = bench.arrive(number, model, now_s)
    loads = [c for c in commands if isinstance(c, LaunchInstance)]
    if loads:
        commands = _loaded(bench, loads[0], now_s + 0.5)
    (infer,) = (c for c in commands if isinstance(c, StartRequest))
    bench.handle(InferenceFinished(f"r{number}", infer.instance_id, 4, now_s + 1.0), until_s)
    return infer.instance_id


def _loaded(bench: Bench, load: LaunchInstance, now_s: float) -> list[Command]:
    return bench.handle(
        LoadFinished(
            instance_id=load.instance_id,
            source=StorageTier.DRAM,
            num_bytes=8,
            transfer_s=0.5,
            startup_s=0.0,
        ),
        now_s,
    )


def _due(bench: Bench, now_s: float) -> list[Command]:
    at_s = bench.controller.next_wakeup_s
    assert at_s is not None and at_s <= now_s
    return bench.handle(WakeUp(), now_s)


def _launched(commands: list[Command]) -> list[str]:
    return [command.model for command in commands if isinstance(command, LaunchInstance)]


def test_a_model_with_demand_is_loaded_again_when_a_window_begins() -> None:
    bench = _bench(1, A)
    _serve(bench=bench, number=1, model="A", now_s=0.0, until_s=8.0)
    _due(bench, 9.0)  # its keep-alive is over

    commands = _due(bench, WINDOW_S)

    assert _launched(commands) == ["A"]


def test_a_request_starts_at_once_on_an_idle_instance_that_the_plan_counts() -> None:
    bench = _bench(1, A, keep_alive_s=None)
    first = _serve(bench=bench, number=1, model="A", now_s=0.0, until_s=8.0)
    _serve(bench=bench, number=2, model="A", now_s=10.0, until_s=12.0)

    planned = _due(bench, WINDOW_S)
    commands = bench.arrive(3, "A", 70.0)

    assert _launched(planned) == []  # the idle one counts
    assert [type(c) for c in commands] == [StartRequest]
    assert commands[0].instance_id == first  # type: ignore[union-attr]


def test_another_model_gets_the_gpu_of_a_prewarmed_instance_and_its_load_is_cancelled() -> None:
    bench = _bench(1, A, B)
    _serve(bench=bench, number=1, model="A", now_s=0.0, until_s=8.0)
    _due(bench, 9.0)
    (warming,) = _due(bench, WINDOW_S)
    assert isinstance(warming, LaunchInstance)

    commands = bench.arrive(2, "B", WINDOW_S + 0.25)

    assert [type(c) for c in commands] == [StopInstance, LaunchInstance]
    assert commands[0].instance_id == warming.instance_id  # type: ignore[union-attr]
    assert _launched(commands) == ["B"]


def test_a_request_joins_an_instance_that_is_being_prewarmed() -> None:
    bench = _bench(2, A)
    _serve(bench=bench, number=1, model="A", now_s=0.0, until_s=8.0)
    _due(bench, 9.0)
    (warming,) = _due(bench, WINDOW_S)
    assert isinstance(warming, LaunchInstance)

    assert bench.arrive(2, "A", WINDOW_S + 0.25) == []
    commands = _loaded(bench, warming, WINDOW_S + 0.5)

    assert [type(c) for c in commands] == [StartRequest]


def test_the_keep_alive_of_a_prewarmed_instance_begins_when_it_is_ready() -> None:
    bench = _bench(1, A, keep_alive_s=4.0)
    _serve(bench=bench, number=1, model="A", now_s=0.0, until_s=8.0)
    _due(bench, 12.0)
    (warming,) = _due(bench, WINDOW_S)
    assert isinstance(warming, LaunchInstance)
    _loaded(bench, warming, WINDOW_S + 1.0)

    assert bench.controller.next_wakeup_s == WINDOW_S + 5.0
    assert [type(c) for c in _due(bench, WINDOW_S + 5.0)] == [StopInstance]


def test_a_replica_takes_the_gpu_of_a_smaller_score_but_not_of_an_equal_one() -> None:
    for other, expected in ((B, []), (C, ["C"])):  # C is four times as long to load
        bench = _bench(1, A, other, keep_alive_s=None)
        _serve(bench=bench, number=1, model=other.model, now_s=0.0, until_s=2.0)
        _serve(bench=bench, number=2, model="A", now_s=4.0, until_s=6.0)  # on the same GPU

        assert _launched(_due(bench, WINDOW_S)) == expected


def test_as_many_instances_are_prewarmed_as_the_peak_needs() -> None:
    bench = _bench(4, A)
    loads = [
        c for n in range(3) for c in bench.arrive(n, "A", 0.0) if isinstance(c, LaunchInstance)
    ]
    assert len(loads) == 3
    for number, load in enumerate(loads):
        _loaded(bench, load, 0.5)
        bench.handle(InferenceFinished(f"r{number}", load.instance_id, 4, 1.0), 8.0)
    _due(bench, 9.0)

    assert _launched(_due(bench, WINDOW_S)) == ["A"] * 3


def test_plans_end_after_enough_quiet_windows() -> None:
    bench = _bench(1, A)
    _serve(bench=bench, number=1, model="A", now_s=0.0, until_s=8.0)

    wakeups = []
    while (at_s := bench.controller.next_wakeup_s) is not None:
        wakeups.append(at_s)
        for load in (c for c in bench.handle(WakeUp(), at_s) if isinstance(c, LaunchInstance)):
            _loaded(bench, load, at_s + 0.5)

    assert [at_s for at_s in wakeups if at_s % WINDOW_S == 0] == [64.0, 128.0, 192.0]


def test_a_plan_is_made_although_an_event_comes_first_at_the_same_time() -> None:
    bench = _bench(2, A, B)
    _serve(bench=bench, number=1, model="A", now_s=0.0, until_s=8.0)
    _due(bench, 9.0)

    bench.arrive(2, "B", WINDOW_S)

    assert _launched(_due(bench, WINDOW_S)) == ["A"]


def test_nothing_is_prewarmed_for_a_deleted_model_or_on_a_draining_server() -> None:
    for event in (ModelDeleted("A"), ServerDraining("s0")):
        bench = _bench(1, A)
        _serve(bench=bench, number=1, model="A", now_s=0.0, until_s=8.0)
        _due(bench, 9.0)
        bench.handle(event, 10.0)

        assert _launched(_due(bench, WINDOW_S)) == []


def test_deleting_a_model_stops_its_prewarmed_instance() -> None:
    bench = _bench(1, A)
    _serve(bench=bench, number=1, model="A", now_s=0.0, until_s=8.0)
    _due(bench, 9.0)
    (warming,) = _due(bench, WINDOW_S)
    assert isinstance(warming, LaunchInstance)

    commands = bench.handle(ModelDeleted("A"), WINDOW_S + 0.25)

    assert [type(c) for c in commands if not isinstance(c, EvictCopy)] == [StopInstance]


def test_a_cancelled_request_is_not_counted_as_open() -> None:
    bench = _bench(1, A, B)
    bench.arrive(1, "A", 0.0)
    bench.arrive(2, "B", 0.0)
    bench.handle(RequestCancelled("r2"), 0.0)
    bench.handle(RequestCancelled("r1"), 0.0)

    commands = _due(bench, WINDOW_S)

    assert len(_launched(commands)) == 1  # one GPU; both models had a peak of 1


def test_any_policy_can_prewarm() -> None:
    policy = PolicySettings(
        name="serverlessllm",
        residency=LruResidency(keep_alive_s=1.0),
        prewarming=PrewarmSettings(WINDOW_S, 20 * WINDOW_S, 2),
    )
    bench = bench_of(policy, [A], [(spec_of("s0"), (in_dram("A", 8),))])
    _serve(bench=bench, number=1, model="A", now_s=0.0, until_s=8.0)
    _due(bench, 9.0)

    assert _launched(_due(bench, WINDOW_S)) == ["A"]
