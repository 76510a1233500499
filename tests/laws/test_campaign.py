"""The long hunt: 20,000 worlds in the simulator and as many runs of chaos, a block per test."""

from random import Random

import pytest

from tests.laws.chaos_run import ChaosRun
from tests.laws.runs import play
from tests.laws.worlds import WorldSize, world_of

BLOCK = 500
BLOCKS = range(40)


@pytest.mark.slow
@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_of_worlds_keeps_the_laws(block: int) -> None:
    for seed in range(block * BLOCK, (block + 1) * BLOCK):
        rng = Random(seed)
        size = WorldSize(rng.randint(1, 4), rng.randint(1, 24), rng.randint(0, 6))
        play(world_of(seed, size))


@pytest.mark.slow
@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_of_chaos_keeps_the_laws(block: int) -> None:
    for seed in range(block * BLOCK, (block + 1) * BLOCK):
        rng = Random(seed)
        world = world_of(seed, WorldSize(rng.randint(1, 4), 1, 0))
        ChaosRun(world, seed, rng.randint(10, 250), rng.choice([0.0, 0.2, 1.0])).play()
