"""The bounds for large traces, and the oracle with the knowledge of the future."""

from dataclasses import replace

import pytest

from experiments.reproduction.bounds.best import standing_of
from experiments.reproduction.bounds.chains import chains_bound_s
from experiments.reproduction.bounds.cost import mean_delay_s, table_ends
from experiments.reproduction.bounds.instances import patient, random_instance
from experiments.reproduction.bounds.oracle import Powers, later_load_s, oracle_of, powers_of
from experiments.reproduction.bounds.pooled import pooled_bound_s
from experiments.reproduction.bounds.relaxed import all_remote, infinite_dram, uncached
from sllmcore.errors import UsageError
from sllmcore.prewarming import PrewarmSettings
from sllmcore.types import DRAM, REMOTE, Residency
from sllmsim.faults import EngineCrash
from sllmsim.simulate import simulate
from tests.bounds.small import instance_of, server_of, workload


def test_an_oracle_knows_the_time_of_an_inference() -> None:
    instance = instance_of([server_of(0, in_dram="A")], workload(("A", 0, 5)))

    oracle = oracle_of(instance.setup, instance.requests)
    recorder = simulate(patient("serverlessllm"), instance.setup, instance.requests).recorder

    assert oracle.requests[0].service_s == 5
    assert recorder.requests.numbers("ended_at_s")[0] == 1 + 5
    assert mean_delay_s(oracle, table_ends(recorder.requests)) == 1


def test_chains_order_requests_on_pooled_gpus() -> None:
    requests = workload(("A", 0, 5), ("A", 2, 5), ("B", 20, 3))
    one_gpu = instance_of([server_of(0)], requests)
    two_gpus = instance_of([server_of(0, num_gpus=2)], requests)

    # A from SSD by 4; the second A after the first, at 9, or from DRAM; B from SSD.
    assert chains_bound_s(oracle_of(one_gpu.setup, requests), None) == (4 + 7 + 4) / 3
    assert chains_bound_s(oracle_of(two_gpus.setup, requests), None) == (4 + 2 + 4) / 3


def test_a_time_out_limits_the_cost_of_chains() -> None:
    requests = workload(("A", 0, 50), ("A", 1, 50), ("A", 2, 50))
    oracle = oracle_of(instance_of([server_of(0)], requests).setup, requests)

    # Behind each other all end at 54 s; within 10 s only one is served, at best the last, at 4 s.
    # A time-out may have saved another request a load of 1 s.
    assert chains_bound_s(oracle, None) == (4 + 53 + 52) / 3
    assert chains_bound_s(oracle, 10.0) == (9 + 9 + 2) / 3


def test_pooled_work_serves_the_shortest_first() -> None:
    requests = workload(("B", 0, 10), ("A", 0, 2))
    oracle = oracle_of(instance_of([server_of(0)], requests).setup, requests)

    assert pooled_bound_s(oracle) == (0 + 2) / 2


def test_bounds_refuse_settings_without_a_proof() -> None:
    instance = instance_of([server_of(0)], workload(("A", 0, 5)))
    setup, requests = instance.setup, instance.requests
    slots = replace(setup, models=(replace(setup.models[0], num_slots=2),))
    half = replace(setup.servers[0], resident=(Residency(DRAM, "A", 1),))

    with pytest.raises(UsageError, match="faults"):
        oracle_of(replace(setup, faults=(EngineCrash(1.0, "s0"),)), requests)
    with pytest.raises(UsageError, match="one slot"):
        oracle_of(slots, requests)
    with pytest.raises(UsageError, match="whole models"):
        oracle_of(replace(setup, servers=(half,)), requests)
    with pytest.raises(UsageError, match="patient"):
        oracle_of(setup, [replace(requests[0], cancel_at_s=3.0)])


def test_infinite_dram_lowers_the_delay_and_no_cache_raises_it() -> None:
    instance = random_instance(2)
    oracle = oracle_of(instance.setup, instance.requests)

    def delay_s(name: str) -> float:
        policy, setup = patient("serverlessllm"), instance.setup
        if name == "infinite":
            setup = infinite_dram(setup)
        if name == "remote":
            policy, setup = uncached(policy), all_remote(setup)
        return mean_delay_s(
            oracle, table_ends(simulate(policy, setup, instance.requests).recorder.requests)
        )

    assert delay_s("infinite") < delay_s("as it is") < delay_s("remote")


def test_a_policy_that_prewarms_may_have_loaded_before_the_arrival() -> None:
    requests = workload(("A", 10, 5), ("B", 16, 3))
    setup = instance_of([server_of(0)], requests).setup

    # On demand each waits 4 s for SSD. Prewarmed: A is ready, and B loads from 15 to 16.
    assert chains_bound_s(oracle_of(setup, requests), None) == (4 + 4) / 2
    assert chains_bound_s(oracle_of(setup, requests, Powers(ahead=True)), None) == 0.0
    soon = workload(("A", 10, 5), ("B", 15, 3))
    assert chains_bound_s(oracle_of(setup, soon, Powers(ahead=True)), None) == (0 + 1) / 2


def test_a_policy_that_splits_loads_uses_several_networks() -> None:
    requests = workload(("A", 0, 5))
    oracle = oracle_of(instance_of([server_of(0), server_of(1)], requests).setup, requests)
    server = oracle.setup.servers[0].hardware
    checkpoint = oracle.requests[0].checkpoint
    whole_s = oracle.least_load_s(checkpoint, server, REMOTE)

    split = replace(oracle, powers=Powers(max_parts=4))  # there are two servers

    assert split.least_load_s(checkpoint, server, REMOTE) == whole_s / 2


def test_a_policy_without_caches_loads_from_the_first_tier_each_time() -> None:
    requests = workload(("A", 0, 5), ("B", 6, 3), ("A", 20, 5))
    setup = instance_of([server_of(0)], requests).setup
    oracle = oracle_of(setup, requests)

    bare = replace(oracle, powers=Powers(caches=False))

    assert later_load_s(oracle, oracle.requests[0].checkpoint) == 1
    assert later_load_s(bare, oracle.requests[0].checkpoint) == 4


@pytest.mark.parametrize("policy", ["warmserve", "hydraserve"])
@pytest.mark.parametrize("seed", range(6))
def test_policies_with_powers_do_not_beat_their_bounds(policy: str, seed: int) -> None:
    instance = random_instance(seed)
    settings = patient(policy)
    if policy == "warmserve":
        settings = replace(settings, prewarming=PrewarmSettings(5.0, 100.0, 2))
    else:
        bare = tuple(replace(server, resident=()) for server in instance.setup.servers)
        instance = replace(instance, setup=replace(instance.setup, servers=bare))
    oracle = oracle_of(instance.setup, instance.requests, powers_of(settings))

    recorder = simulate(settings, instance.setup, instance.requests).recorder
    standing = standing_of(oracle, table_ends(recorder.requests), None)

    assert 0 <= standing.bound_s <= standing.delay_s
