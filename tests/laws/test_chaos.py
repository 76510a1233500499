"""Laws that the controller keeps whatever a driver does that the contract allows.

Seeded bugs that this test has caught, one at a time: all that `test_simulated_runs` lists of the
controller, and those that only crossings show: a request whose client left and that runs again when
its engine crashes, a request that moves while it is being stopped and is not stopped where it went,
requests that wait for a server that is lost.
And bugs that nobody had seeded: a rejection of a request whose client had left; two victims of one
newcomer, of which one was sent to an idle instance and the other given that instance's GPUs.
"""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.laws.chaos_run import ChaosRun
from tests.laws.worlds import WorldSize, world_of


@given(
    seed=st.integers(0, 2**32),
    num_servers=st.integers(1, 4),
    num_steps=st.integers(1, 250),
    storms=st.sampled_from([0.0, 0.2, 1.0]),
)
@settings(max_examples=max(300, settings().max_examples))
def test_commands_and_answers_may_cross_in_every_way(
    seed: int, num_servers: int, num_steps: int, storms: float
) -> None:
    world = world_of(seed, WorldSize(num_servers, 1, 0))

    ChaosRun(world, seed, num_steps, storms).play()
