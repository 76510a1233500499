"""Slots per instance, computed from the memory that the weights leave."""

import pytest

from experiments.composing import composed_run
from experiments.config.models import Deployment
from experiments.simulation.setup import sim_setup
from sllmcore.errors import UsageError
from sllmsim.catalog import gpu_named


@pytest.mark.parametrize(
    ("model", "slots"),
    # (0.9 x 48 GiB a GPU - weights) / 2,048 tokens of KV cache; OPT-30B takes two GPUs
    [("opt-6.7b", 30), ("opt-13b", 12), ("opt-30b", 11)],
)
def test_slots_fill_the_memory_left_by_the_weights(model: str, slots: int) -> None:
    deployment = Deployment(model, 1, num_slots=None)

    assert deployment.slots_per_instance(gpu_named("a40")) == slots


def test_a_shorter_context_gives_more_slots_and_at_least_one_remains() -> None:
    a40 = gpu_named("a40")

    assert (
        Deployment("opt-6.7b", 1, num_slots=None, context_tokens=1024).slots_per_instance(a40)
        >= 2 * 30
    )
    assert (
        Deployment("opt-6.7b", 1, num_slots=None, context_tokens=10**9).slots_per_instance(a40) == 1
    )


def test_a_run_is_set_up_with_the_slots_of_its_deployments() -> None:
    config = composed_run(["models=opt_6_7b", "models.deployments.opt_6_7b.num_slots=null"])

    assert {model.num_slots for model in sim_setup(config).models} == {30}
    assert {model.num_slots for model in sim_setup(composed_run([])).models} == {1}


def test_no_slots_and_no_context_are_refused() -> None:
    with pytest.raises(UsageError, match="num_slots"):
        Deployment("opt-6.7b", 1, num_slots=0)
    with pytest.raises(UsageError, match="context_tokens"):
        Deployment("opt-6.7b", 1, context_tokens=0)
