"""Migrated output is the output without a migration: a short campaign."""

import random
from pathlib import Path

import pytest

from experiments.campaigns.engine import identity
from experiments.campaigns.engine.driving import step_until_output, whole_output
from experiments.campaigns.engine.makers import VOCABULARY, EngineMaker, TimedMaker
from experiments.campaigns.engine.migration import Move, Strategy, chosen_sampling, migrated_output
from sllmreal.engine.protocol import Engine, SequenceSpec

PROMPT = tuple(random.Random(1).randrange(VOCABULARY) for _ in range(21))
NUM_OUTPUT = 14


def move(strategy: Strategy, sampling: str, num_early: int, num_output: int) -> Move:
    spec = SequenceSpec("moved", PROMPT, NUM_OUTPUT, chosen_sampling(sampling, seed=5))
    return Move(spec, strategy, num_early, num_output)


@pytest.mark.parametrize("sampling", identity.SAMPLINGS)
@pytest.mark.parametrize("strategy", Strategy)
def test_a_migration_at_any_output_changes_nothing(
    maker: EngineMaker, strategy: Strategy, sampling: str
) -> None:
    """Seeded: a destination's sampling index one too high; a block written one row too low."""
    expected = whole_output(maker(), move(strategy, sampling, 0, 1).spec)

    for num_early, num_output in ((0, 1), (0, 9), (1, 1), (3, 8), (6, 7), (13, 13)):
        moving = move(strategy, sampling, num_early, num_output)
        assert migrated_output(maker(), maker(), moving) == expected


def busy(engine: Engine) -> Engine:
    """Add two other sequences, of other lengths, to an engine."""
    for number, length in enumerate((4, 17)):
        engine.start(SequenceSpec(f"other {number}", PROMPT[-length:], 60))
        step_until_output(engine, f"other {number}", 2)
    return engine


@pytest.mark.parametrize("strategy", Strategy)
def test_a_migration_between_busy_engines_changes_nothing(
    maker: EngineMaker, strategy: Strategy
) -> None:
    moving = move(strategy, "sampled", 2, 7)
    expected = whole_output(maker(), moving.spec)

    assert migrated_output(busy(maker()), busy(maker()), moving) == expected


@pytest.mark.parametrize("strategy", Strategy)
def test_any_resume_point_of_the_timed_engine_will_do(strategy: Strategy) -> None:
    make = TimedMaker()
    expected = whole_output(make(), move(strategy, "sampled", 0, 1).spec)

    for num_output in range(1, NUM_OUTPUT):
        for num_early in range(num_output + 1):
            moving = move(strategy, "sampled", num_early, num_output)
            assert migrated_output(make(), make(), moving) == expected


def test_the_campaign_finds_no_error(models: Path) -> None:
    measured = list(identity.cells(models, 4, size=identity.Size(24, 12)))

    assert len(measured) == 18
    assert [cell for cell in measured if cell.must_be_identical and cell.num_different] == []
