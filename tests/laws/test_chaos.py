"""Laws that the controller keeps with every driver that obeys the contract.

Seeded bugs that this test has caught, one at a time: those of the controller that
`test_simulated_runs` lists, and those that need crossing messages: a cancelled request that
restarts when its engine crashes; a request that migrates while it is stopped and is not stopped at
its destination; requests that wait for a lost server.
Real bugs that it has found: a rejection of a cancelled request; two victims of one launch, of which
one was sent to an idle instance and the other to the GPUs of that instance.
"""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.laws.cases import CaseSize, case_of
from tests.laws.chaos_run import ChaosRun


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
    case = case_of(seed, CaseSize(num_servers, 1, 0))

    ChaosRun(case, seed, num_steps, storms).play()
