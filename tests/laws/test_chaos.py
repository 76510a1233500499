"""Laws that the controller keeps whatever a driver does that the contract allows."""

from hypothesis import given
from hypothesis import strategies as st

from tests.laws.chaos_run import ChaosRun
from tests.laws.worlds import WorldSize, world_of


@given(
    seed=st.integers(0, 2**32),
    num_servers=st.integers(1, 4),
    num_steps=st.integers(1, 250),
    storms=st.sampled_from([0.0, 0.2, 1.0]),
)
def test_commands_and_answers_may_cross_in_every_way(
    seed: int, num_servers: int, num_steps: int, storms: float
) -> None:
    world = world_of(seed, WorldSize(num_servers, 1, 0))

    ChaosRun(world, seed, num_steps, storms).play()
