"""`composed_run` gives the configs that Hydra itself would compose."""

import pytest

from experiments.composing import composed, composed_run
from experiments.config.compare_config import without_compare_keys
from experiments.config.run_config import RunConfig, run_config
from experiments.reproduction.figures.catalogue import grids

ONE_OF_EACH = [(*grid.shared, *grid.cells[-1].overrides) for grid in grids()]
KINDS = (
    "policy.residency.keep_alive_load_factor=null",
    "workload.cv=[1,2.5]",
    "workload.lengths='sharegpt'",
    "driver.journal=false",
    "++cluster.servers.a40.count=2",
)


def by_hydra(overrides: tuple[str, ...]) -> RunConfig:
    """Return a config composed by Hydra alone."""
    plain = composed("run", overrides)
    del plain["out"]
    return run_config(without_compare_keys(plain))


@pytest.mark.parametrize("overrides", [*ONE_OF_EACH, ("workload=paper", *KINDS), ("seed=7",)])
def test_values_are_set_as_hydra_sets_them(overrides: tuple[str, ...]) -> None:
    assert composed_run(overrides) == by_hydra(overrides)


def test_the_values_of_a_run_do_not_affect_the_next() -> None:
    composed_run(("workload.target_rps=5",))

    assert composed_run(("workload.cv=3",)) == by_hydra(("workload.cv=3",))
