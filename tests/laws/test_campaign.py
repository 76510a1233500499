"""The campaign: 20,000 cases in the simulator and as many chaos runs, one block per test."""

from random import Random

import pytest

from tests.laws.cases import CaseSize, case_of
from tests.laws.chaos_run import ChaosRun
from tests.laws.runs import play

BLOCK = 500
BLOCKS = range(40)


@pytest.mark.slow
@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_of_cases_keeps_the_laws(block: int) -> None:
    for seed in range(block * BLOCK, (block + 1) * BLOCK):
        rng = Random(seed)
        size = CaseSize(rng.randint(1, 4), rng.randint(1, 24), rng.randint(0, 6))
        play(case_of(seed, size))


@pytest.mark.slow
@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_of_chaos_keeps_the_laws(block: int) -> None:
    for seed in range(block * BLOCK, (block + 1) * BLOCK):
        rng = Random(seed)
        case = case_of(seed, CaseSize(rng.randint(1, 4), 1, 0))
        ChaosRun(case, seed, rng.randint(10, 250), rng.choice([0.0, 0.2, 1.0])).play()
