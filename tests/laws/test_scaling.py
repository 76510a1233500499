"""The cost of a request does not grow with the run, the cluster, the catalogue or the queue.

The cost is the number of calls (of the core, the estimator and the kernel) and of visited requests,
measured at n, 2n and 4n. A cost linear in n would grow fourfold.

Seeded bug that these tests have caught: a launch that estimates every server, not only the holders.
"""

import pytest

from sllmcore.build import POLICIES
from tests.laws.operations import operations


@pytest.mark.parametrize("policy", ["serverlessllm", "locality"])
def test_a_request_costs_no_more_in_a_longer_run(policy: str) -> None:
    once, twice, four = (operations(policy, num_requests=n) for n in (200, 400, 800))

    assert twice.at_most(1.2, once)
    assert four.at_most(1.2, twice)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_request_costs_hardly_more_in_a_larger_cluster(policy: str) -> None:
    once, twice, four = (operations(policy, n, 8 * n, 30 * n) for n in (8, 16, 32))

    assert twice.at_most(1.3, once)
    assert four.at_most(1.3, once)


@pytest.mark.parametrize("policy", ["serverlessllm", "availability"])
def test_a_request_costs_hardly_more_with_more_models(policy: str) -> None:
    once, twice, four = (operations(policy, 8, n, 250) for n in (64, 128, 256))

    assert twice.at_most(1.4, once)
    assert four.at_most(1.6, once)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_request_costs_no_more_behind_a_longer_queue(policy: str) -> None:
    # Three times what the GPUs can serve: the queue grows as long as requests arrive.
    once, twice, four = (operations(policy, num_requests=n, load=3.0) for n in (200, 400, 800))

    assert twice.at_most(1.3, once)
    assert four.at_most(1.3, once)


def test_a_request_takes_few_events() -> None:
    # Two at least: its arrival, and the end of its last token. A load is one more.
    assert operations("serverlessllm").timers < 5
