"""Waiting requests are decided again as soon as they can start."""

from sllmcore.build import PolicySettings
from sllmcore.cluster.request_state import RequestState
from sllmcore.commands import LaunchInstance, StartRequest
from sllmcore.controller.pending import PendingQueue
from sllmcore.events import InferenceFinished, LoadFinished, ServerJoined, ServerLost
from sllmcore.residency import LruResidency
from sllmcore.types import Checkpoint, StorageTier
from tests.builders import Bench, bench_of, in_dram, on_ssd, request_of, spec_of

A, B, WIDE = Checkpoint("A", 16), Checkpoint("B", 16), Checkpoint("W", 32, 2)
LOCALITY = PolicySettings(name="locality")


def load(bench: Bench, instance_id: str, now_s: float) -> None:
    bench.handle(
        LoadFinished(
            instance_id=instance_id,
            source=StorageTier.DRAM,
            num_bytes=16,
            transfer_s=1.0,
            startup_s=0.0,
        ),
        now_s,
    )


def loads(bench: Bench) -> list[tuple[str, str]]:
    commands = [c for _, _, commands in bench.log for c in commands]
    return [(c.model, c.server_id) for c in commands if isinstance(c, LaunchInstance)]


def test_the_first_of_several_busy_holders_to_become_free_takes_the_model() -> None:
    holds_both = (in_dram("A", 16), in_dram("B", 16))
    bench = bench_of(LOCALITY, [A, B], [(spec_of(s), holds_both) for s in ("s0", "s1")])
    for number in (1, 2):
        bench.arrive(number, "A", 0.0)
        load(bench, f"i{number}", 1.0)
    bench.arrive(3, "B", 2.0)

    bench.handle(InferenceFinished("r2", "i2", 15, 1.5), 5.0)

    assert loads(bench) == [("A", "s0"), ("A", "s1"), ("B", "s1")]


def test_a_waiting_model_of_two_gpus_does_not_block_one_of_one_gpu() -> None:
    holds = (in_dram("A", 8), in_dram("B", 16), in_dram("W", 32))
    a = Checkpoint("A", 8)
    bench = bench_of(LOCALITY, [a, B, WIDE], [(spec_of("s0", 2), holds)])
    for number in (1, 2):
        bench.arrive(number, "A", 0.0)
        load(bench, f"i{number}", 1.0)
    bench.arrive(3, "W", 2.0)
    bench.arrive(4, "B", 2.0)

    bench.handle(InferenceFinished("r2", "i2", 15, 1.5), 5.0)

    assert loads(bench) == [("A", "s0"), ("A", "s0"), ("B", "s0")]


def test_a_request_that_lost_its_instance_takes_a_free_slot_while_others_wait_for_gpus() -> None:
    # Idle instances cannot be reclaimed, so r3, for B, waits for a GPU. The server of r4 is lost.
    # The other instance of A is idle and can serve r4.
    keeps = PolicySettings(residency=LruResidency(keep_alive_s=100.0, reclaims_idle=False))
    bench = bench_of(
        keeps, [A, B], [(spec_of("s0"), (on_ssd("A", 16),)), (spec_of("s1"), (on_ssd("A", 16),))]
    )
    for number in (1, 2):
        bench.arrive(number, "A", 0.0)
        load(bench, f"i{number}", 2.0)
    bench.arrive(3, "B", 3.0)
    for number in (1, 2):
        bench.handle(InferenceFinished(f"r{number}", f"i{number}", 15, 2.5), 6.0)
    bench.arrive(4, "A", 6.5)

    assert bench.handle(ServerLost("s0"), 7.0) == [StartRequest(6, "r4", "i2", 2)]


def request_state(number: int, model: str) -> RequestState:
    return RequestState(request_of(number, model), number)


def test_the_oldest_request_is_the_one_that_arrived_first_in_any_order_of_adding() -> None:
    queue, first, second = PendingQueue(), request_state(1, "A"), request_state(2, "A")
    queue.add(second, 1)
    queue.add(first, 1)

    assert queue.oldest(None) is first
    assert queue.oldest_of("A") is first


def test_the_oldest_request_below_a_bound_needs_fewer_gpus() -> None:
    queue, wide, narrow = PendingQueue(), request_state(1, "W"), request_state(2, "A")
    queue.add(wide, 2)
    queue.add(narrow, 1)

    assert [queue.oldest(None), queue.oldest(2), queue.oldest(1)] == [wide, narrow, None]


def test_a_removed_request_is_in_no_index() -> None:
    queue, one = PendingQueue(), request_state(1, "A")
    queue.add(one, 1)

    queue.remove(one)

    assert len(queue) == 0
    assert queue.oldest(None) is None and queue.oldest_of("A") is None
    assert queue.of_model("A") == []


def test_a_request_may_wait_again_after_it_was_removed() -> None:
    queue, one = PendingQueue(), request_state(1, "A")
    queue.add(one, 1)
    queue.remove(one)

    queue.add(one, 1)

    assert queue.oldest(None) is one and queue.oldest_of("A") is one


def test_a_server_that_joins_with_a_copy_takes_a_request_parked_at_another_holder() -> None:
    bench = bench_of(LOCALITY, [A, B], [(spec_of("s0"), (in_dram("A", 16), in_dram("B", 16)))])
    bench.arrive(1, "A", 0.0)
    load(bench, "i1", 1.0)
    bench.arrive(2, "B", 1.0)

    bench.handle(ServerJoined(spec_of("s1"), (in_dram("B", 16),)), 2.0)

    assert loads(bench) == [("A", "s0"), ("B", "s1")]
