"""The integer program finds optima that are known by hand or from all orders."""

from itertools import permutations
from random import Random

import pytest

from experiments.reproduction.bounds.instances import SmallInstance
from sllmcore.workload import WorkloadRequest
from tests.bounds.small import instance_of, optimum_s, server_of, workload


def test_the_only_request_waits_for_its_load() -> None:
    from_ssd = instance_of([server_of(0)], workload(("A", 0, 5)))
    from_dram = instance_of([server_of(0, in_dram="A")], workload(("A", 0, 5)))
    from_remote = instance_of([server_of(0, models="")], workload(("A", 0, 5)))

    assert optimum_s(from_ssd) == 4
    assert optimum_s(from_dram) == 1
    assert optimum_s(from_remote) == 8


def test_a_request_of_the_same_model_waits_for_the_only_gpu() -> None:
    instance = instance_of([server_of(0)], workload(("A", 0, 5), ("A", 2, 5)))

    assert optimum_s(instance) == 4 + (4 + 5 - 2)


def test_short_work_goes_first_on_one_gpu() -> None:
    requests = workload(("B", 0, 10), ("A", 0, 2))
    instance = instance_of([server_of(0, in_dram="AB")], requests)

    assert optimum_s(instance) == 1 + (1 + 2 + 1)


def test_loads_take_turns_on_the_ssd() -> None:
    instance = instance_of([server_of(0, num_gpus=2)], workload(("A", 0, 20), ("B", 0, 20)))

    assert optimum_s(instance) == 4 + 8
    assert optimum_s(instance, sequential=False) == 4 + 4


def test_two_servers_load_at_the_same_time() -> None:
    instance = instance_of([server_of(0), server_of(1)], workload(("A", 0, 20), ("B", 0, 20)))

    assert optimum_s(instance) == 4 + 4


def test_dram_for_one_model_keeps_one() -> None:
    requests = workload(("A", 0, 2), ("B", 10, 2), ("A", 20, 2), ("B", 30, 2))

    assert optimum_s(instance_of([server_of(0, dram=0)], requests)) == 4 + 4 + 4 + 4
    assert optimum_s(instance_of([server_of(0, dram=1)], requests)) == 4 + 4 + 1 + 4
    assert optimum_s(instance_of([server_of(0, dram=2)], requests)) == 4 + 4 + 1 + 1


def test_the_optimum_does_not_prewarm() -> None:
    """The second request finds its model in DRAM, but no prewarmed instance."""
    instance = instance_of([server_of(0, num_gpus=2)], workload(("A", 0, 20), ("A", 12, 2)))

    assert optimum_s(instance) == 4 + 1


def test_a_migration_is_free_but_its_load_takes_time() -> None:
    """B is in the DRAM of the busy server: A migrates to the other one and loads from SSD there."""
    servers = [server_of(0, in_dram="AB"), server_of(1, models="A")]
    instance = instance_of(servers, workload(("A", 0, 30), ("B", 1, 30)))

    # A starts at 1 on server 0; from 1 to 5 it loads on server 1; from 5 to 6 B loads. Starting A
    # on server 1 costs 4, and B then 1.
    assert optimum_s(instance) == 5


def test_instances_on_two_gpus_share_four_of_them() -> None:
    requests = workload(("A", 0, 5), ("B", 0, 5))
    narrow = instance_of([server_of(0, 3, models="", dram=0)], requests, num_gpus=2)
    wide = instance_of([server_of(0, 4, models="", dram=0)], requests, num_gpus=2)

    assert optimum_s(narrow, 55.0) == 16 + (16 + 5 + 16)
    assert optimum_s(wide, 55.0) == 16 + (16 + 16)


@pytest.mark.parametrize("seed", range(6))
def test_one_gpu_gives_the_best_of_all_orders(seed: int) -> None:
    rng = Random(seed)
    requests = workload(
        *((rng.choice("ABC"), float(at_s), rng.randint(1, 6)) for at_s in _arrivals(rng, 4))
    )
    instance = instance_of([server_of(0, models="ABC", dram=3, in_dram="ABC")], requests)

    known_s = min(_cost_s(order) for order in permutations(requests))
    assert optimum_s(instance, known_s) == known_s


@pytest.mark.parametrize("seed", range(3))
def test_another_gpu_never_raises_the_optimum(seed: int) -> None:
    rng = Random(seed)
    requests = workload(
        *((rng.choice("AB"), float(at_s), rng.randint(2, 6)) for at_s in _arrivals(rng, 3))
    )

    def with_gpus(*gpus: int) -> SmallInstance:
        return instance_of([server_of(i, n, "AB", dram=1) for i, n in enumerate(gpus)], requests)

    one, two, three = (optimum_s(with_gpus(*gpus), 24.0) for gpus in ((1,), (2,), (2, 1)))

    assert one >= two >= three


def _arrivals(rng: Random, num_requests: int) -> list[int]:
    return sorted(rng.randint(0, 10) for _ in range(num_requests))


def _cost_s(order: tuple[WorkloadRequest, ...]) -> float:
    """Return the total delay of an order on one GPU with every model in DRAM.

    A load begins when the GPU is free and a request waits.
    """
    cost_s, free_at_s, loaded = 0.0, 0.0, None
    for position, item in enumerate(order):
        request = item.request
        ready_at_s = free_at_s
        if request.model != loaded:
            waiting = [r.request for r in order[position:] if r.request.model == request.model]
            ready_at_s = max(free_at_s, min(r.arrived_at_s for r in waiting)) + 1.0
        start_s = max(ready_at_s, request.arrived_at_s)
        cost_s += start_s - request.arrived_at_s
        free_at_s, loaded = start_s + item.output_tokens / 4, request.model
    return cost_s
