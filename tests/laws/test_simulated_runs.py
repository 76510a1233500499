"""Laws that every simulated run keeps, whatever the cluster, the trace, the policy, the faults."""

from hypothesis import given

from tests.laws.runs import play
from tests.laws.worlds import World, worlds


@given(worlds())
def test_every_run_without_faults_keeps_the_laws(world: World) -> None:
    play(world)


@given(worlds(max_faults=6))
def test_every_run_with_faults_keeps_the_laws(world: World) -> None:
    play(world)
