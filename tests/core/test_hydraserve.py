"""Loads split over servers: the number of parts and the choice of networks.

A network carries 4 bytes/s: a model of 32 bytes takes 8 s over one, 4 s over two, 2 s over four.

Seeded bug that these tests have caught: a share of the network that ignores deadlines.
"""

from sllmcore.build import PolicySettings
from sllmcore.commands import Command, LaunchInstance, StartRequest
from sllmcore.controller import ControllerSettings
from sllmcore.events import InstanceLost, LoadFinished, ServerDraining, ServerLost
from sllmcore.migration_predictor import MigrationProfile
from sllmcore.residency import LruResidency
from sllmcore.scheduling.hydraserve import SplitSettings
from sllmcore.types import Checkpoint, LoadEstimate, StorageTier
from tests.builders import Bench, bench_of, in_dram, on_ssd, request_of, spec_of

REMOTE = StorageTier.REMOTE
A, B, WIDE = Checkpoint("A", 32), Checkpoint("B", 16), Checkpoint("W", 32, 2)
NO_TIME = MigrationProfile(per_token_s=0.0, fixed_s=0.0, output_token_s=0.03125)


def _bench(
    ttft_slo_s: float,
    num_servers: int = 4,
    max_parts: int = 4,
    tpot_slo_s: float = 1.0,
    models: tuple[Checkpoint, ...] = (A, B),
    gpus: int = 2,
) -> Bench:
    policy = PolicySettings(
        name="hydraserve",
        migration=NO_TIME,
        residency=LruResidency(),
        controller=ControllerSettings(sequential_loading=False),
        splitting=SplitSettings(max_parts, ttft_slo_s, tpot_slo_s, margin_s=0.0, hop_s=0.0),
    )
    return bench_of(policy, models, [(spec_of(f"s{i}", gpus), ()) for i in range(num_servers)])


def _load(commands: list[Command]) -> LaunchInstance:
    (load,) = (command for command in commands if isinstance(command, LaunchInstance))
    return load


def test_one_server_fetches_alone_if_that_meets_the_objective() -> None:
    load = _load(_bench(8.5).arrive(1, "A"))

    assert load == LaunchInstance(
        id=1,
        instance_id="i1",
        model="A",
        server_id="s0",
        gpu_indices=(0,),
        estimate=LoadEstimate(REMOTE, 0.0, 8.0, 0.0),
        cache_in=load.cache_in,
        after=None,
    )
    assert load.cache_in


def test_a_load_has_as_few_parts_as_the_first_token_allows() -> None:
    load = _load(_bench(4.5).arrive(1, "A"))

    assert (load.server_id, load.helpers) == ("s0", ("s1",))
    assert load.estimate == LoadEstimate(REMOTE, 0.0, 4.0, 0.0)
    assert load.cache_in == ()


def test_tokens_that_would_come_too_slowly_forbid_more_parts() -> None:
    # 1/32 s alone; 1.5 and 2.33 times as long over two and three servers
    load = _load(_bench(3.0, tpot_slo_s=0.0625).arrive(1, "A"))

    assert load.helpers == ()  # two parts are too late, three too slow: no split


def test_a_request_that_has_waited_needs_more_parts() -> None:
    bench = _bench(4.5)
    late = request_of(1, "A", at_s=-2.25)

    decision = bench.controller._dispatcher.scheduler.decide(late, bench.controller.cluster, 0.0)

    assert decision.placement.helpers == ("s1", "s2", "s3")  # type: ignore[union-attr]


def test_a_busy_network_gives_its_share_and_others_are_preferred() -> None:
    bench = _bench(8.5)
    bench.arrive(1, "A")

    load = _load(bench.arrive(2, "B"))

    assert load.server_id == "s1"


def test_a_network_takes_no_fetch_that_breaks_a_deadline() -> None:
    bench = _bench(8.5, num_servers=2)  # A has half a second to spare
    assert _load(bench.arrive(1, "A")).server_id == "s0"
    bench.arrive(2, "B")  # on s1, 4 s: half of the network would be enough

    loads = [_load(bench.arrive(number, "B", 0.0)) for number in (3, 4)]

    assert [load.server_id for load in loads] == ["s1", "s0"]  # two on s1, then it is too late


def test_a_helper_may_have_no_gpu_left_if_a_part_fits_beside_what_runs() -> None:
    bench = _bench(4.5, num_servers=2, gpus=1)
    bench.arrive(1, "B", 0.0)
    bench.handle(
        LoadFinished(instance_id="i1", source=REMOTE, num_bytes=16, transfer_s=4.0, startup_s=0.0),
        4.0,
    )

    load = _load(bench.arrive(2, "A", 5.0))

    assert (load.server_id, load.helpers) == ("s1", ("s0",))


def test_a_server_with_full_gpus_does_not_help() -> None:
    bench = _bench(8.5, num_servers=2, gpus=1)
    first = _load(bench.arrive(1, "A", 0.0))
    bench.handle(
        LoadFinished(instance_id="i1", source=REMOTE, num_bytes=32, transfer_s=8.0, startup_s=0.0),
        8.0,
    )
    other = _bench(4.5, num_servers=2, gpus=1)
    other.arrive(1, "A", 0.0)
    other.handle(
        LoadFinished(instance_id="i1", source=REMOTE, num_bytes=16, transfer_s=4.0, startup_s=0.0),
        4.0,
    )

    assert first.helpers == ()
    assert _load(other.arrive(2, "A", 30.0)).helpers == ()


def test_a_model_in_a_cache_tier_is_loaded_there_without_a_split() -> None:
    bench = bench_of(
        PolicySettings(name="hydraserve", splitting=SplitSettings(ttft_slo_s=0.25, margin_s=0.0)),
        [A, B],
        [
            (spec_of("s0"), ()),
            (spec_of("s1"), (in_dram("A", 32),)),
            (spec_of("s2"), (on_ssd("B", 16),)),
        ],
    )

    a, b = _load(bench.arrive(1, "A")), _load(bench.arrive(2, "B"))

    assert (a.server_id, a.helpers) == ("s1", ())
    assert (b.server_id, b.helpers) == ("s2", ())


def test_models_of_several_gpus_are_not_split() -> None:
    load = _load(_bench(2.5, models=(WIDE,)).arrive(1, "W"))

    assert load.helpers == ()


def test_draining_servers_do_not_help() -> None:
    bench = _bench(4.5, num_servers=2)
    bench.handle(ServerDraining("s1"), 0.0)

    assert _load(bench.arrive(1, "A")).helpers == ()


def test_a_request_joins_a_split_load_under_way() -> None:
    bench = bench_of(
        PolicySettings(name="hydraserve", migration=NO_TIME, splitting=SplitSettings(2, 5.0)),
        [B],
        [(spec_of("s0"), ()), (spec_of("s1"), ())],
        num_slots=2,
    )
    bench.arrive(1, "B")

    assert bench.arrive(2, "B", 1.0) == []
    finished = bench.handle(
        LoadFinished(instance_id="i1", source=REMOTE, num_bytes=8, transfer_s=2.0, startup_s=0.0),
        2.0,
    )
    assert [type(command) for command in finished] == [StartRequest, StartRequest]


def test_the_loss_of_a_helper_is_reported_as_the_loss_of_the_instance() -> None:
    bench = _bench(4.5, num_servers=2)
    bench.arrive(1, "A")
    bench.handle(ServerLost("s1"), 1.0)

    commands = bench.handle(InstanceLost("i1", "a helper is lost"), 1.0)

    load = _load(commands)
    assert (load.instance_id, load.server_id, load.helpers) == ("i2", "s0", ())
