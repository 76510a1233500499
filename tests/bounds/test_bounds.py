"""The bounds for large traces, and the oracle that they see the truth through."""

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
from tests.bounds.small import asked, instance_of, server_of


def test_an_oracle_knows_what_the_engine_will_take() -> None:
    instance = instance_of([server_of(0, in_dram="A")], asked(("A", 0, 5)))

    oracle = oracle_of(instance.setup, instance.jobs)
    recorder = simulate(patient("serverlessllm"), instance.setup, instance.jobs).recorder

    assert oracle.requests[0].service_s == 5
    assert recorder.requests.numbers("ended_at_s")[0] == 1 + 5
    assert mean_delay_s(oracle, table_ends(recorder.requests)) == 1


def test_chains_put_requests_behind_each_other() -> None:
    jobs = asked(("A", 0, 5), ("A", 2, 5), ("B", 20, 3))
    one_gpu = instance_of([server_of(0)], jobs)
    two_gpus = instance_of([server_of(0, num_gpus=2)], jobs)

    # A from SSD by 4; the second A after the first, at 9, or from DRAM; B from SSD.
    assert chains_bound_s(oracle_of(one_gpu.setup, jobs), None) == (4 + 7 + 4) / 3
    assert chains_bound_s(oracle_of(two_gpus.setup, jobs), None) == (4 + 2 + 4) / 3


def test_a_time_out_limits_what_chains_cost() -> None:
    jobs = asked(("A", 0, 50), ("A", 1, 50), ("A", 2, 50))
    oracle = oracle_of(instance_of([server_of(0)], jobs).setup, jobs)

    # Behind each other all end at 54 s; within 10 s only one is served, at best the last, at 4 s.
    # A time-out may have spared somebody else a load of 1 s.
    assert chains_bound_s(oracle, None) == (4 + 53 + 52) / 3
    assert chains_bound_s(oracle, 10.0) == (9 + 9 + 2) / 3


def test_pooled_work_serves_the_shortest_first() -> None:
    jobs = asked(("B", 0, 10), ("A", 0, 2))
    oracle = oracle_of(instance_of([server_of(0)], jobs).setup, jobs)

    assert pooled_bound_s(oracle) == (0 + 2) / 2


def test_bounds_refuse_what_they_do_not_cover() -> None:
    instance = instance_of([server_of(0)], asked(("A", 0, 5)))
    setup, jobs = instance.setup, instance.jobs
    slots = replace(setup, models=(replace(setup.models[0], num_slots=2),))
    half = replace(setup.servers[0], resident=(Residency(DRAM, "A", 1),))

    with pytest.raises(UsageError, match="faults"):
        oracle_of(replace(setup, faults=(EngineCrash(1.0, "s0"),)), jobs)
    with pytest.raises(UsageError, match="one slot"):
        oracle_of(slots, jobs)
    with pytest.raises(UsageError, match="whole models"):
        oracle_of(replace(setup, servers=(half,)), jobs)
    with pytest.raises(UsageError, match="patient"):
        oracle_of(setup, [replace(jobs[0], cancel_at_s=3.0)])


def test_more_dram_is_sooner_and_no_cache_later() -> None:
    instance = random_instance(2)
    oracle = oracle_of(instance.setup, instance.jobs)

    def delay_s(name: str) -> float:
        policy, setup = patient("serverlessllm"), instance.setup
        if name == "infinite":
            setup = infinite_dram(setup)
        if name == "remote":
            policy, setup = uncached(policy), all_remote(setup)
        return mean_delay_s(
            oracle, table_ends(simulate(policy, setup, instance.jobs).recorder.requests)
        )

    assert delay_s("infinite") < delay_s("as it is") < delay_s("remote")


def test_who_launches_ahead_of_demand_has_loaded_before_the_request_comes() -> None:
    jobs = asked(("A", 10, 5), ("B", 16, 3))
    setup = instance_of([server_of(0)], jobs).setup

    # On demand: A by 4, then B from SSD by 4 too. Ahead: A is there; B begins to load at 15, for 1.
    assert chains_bound_s(oracle_of(setup, jobs), None) == (4 + 4) / 2
    assert chains_bound_s(oracle_of(setup, jobs, Powers(ahead=True)), None) == 0.0
    soon = asked(("A", 10, 5), ("B", 15, 3))
    assert chains_bound_s(oracle_of(setup, soon, Powers(ahead=True)), None) == (0 + 1) / 2


def test_who_splits_loads_has_several_networks() -> None:
    jobs = asked(("A", 0, 5))
    oracle = oracle_of(instance_of([server_of(0), server_of(1)], jobs).setup, jobs)
    server = oracle.setup.servers[0].hardware
    checkpoint = oracle.requests[0].checkpoint
    whole_s = oracle.least_load_s(checkpoint, server, REMOTE)

    split = replace(oracle, powers=Powers(max_parts=4))  # of which there are two

    assert split.least_load_s(checkpoint, server, REMOTE) == whole_s / 2


def test_who_leaves_no_copies_loads_from_afar_each_time() -> None:
    jobs = asked(("A", 0, 5), ("B", 6, 3), ("A", 20, 5))
    setup = instance_of([server_of(0)], jobs).setup
    oracle = oracle_of(setup, jobs)

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
    oracle = oracle_of(instance.setup, instance.jobs, powers_of(settings))

    recorder = simulate(settings, instance.setup, instance.jobs).recorder
    standing = standing_of(oracle, table_ends(recorder.requests), None)

    assert 0 <= standing.bound_s <= standing.delay_s
