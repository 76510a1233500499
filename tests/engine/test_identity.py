"""Migrated output is the output without a migration: a short campaign."""

import random
from pathlib import Path

import pytest

from experiments.campaigns.engine import identity
from experiments.campaigns.engine.driving import (
    CacheTransfer,
    MigrationCase,
    migrated_output,
    sampling_of,
    step_until_output,
    whole_output,
)
from experiments.campaigns.engine.makers import VOCABULARY, EngineMaker, TimedMaker
from sllmreal.engine.protocol import Engine, SequenceSpec

PROMPT = tuple(random.Random(1).randrange(VOCABULARY) for _ in range(21))
NUM_OUTPUT = 14


def case_of(
    transfer: CacheTransfer, sampling: str, num_early: int, num_output: int
) -> MigrationCase:
    spec = SequenceSpec("moved", PROMPT, NUM_OUTPUT, sampling_of(sampling, seed=5))
    return MigrationCase(spec, transfer, num_early, num_output)


@pytest.mark.parametrize("sampling", identity.SAMPLINGS)
@pytest.mark.parametrize("transfer", CacheTransfer)
def test_moving_at_any_output_changes_nothing(
    maker: EngineMaker, transfer: CacheTransfer, sampling: str
) -> None:
    """Seeded: a destination's sampling index one too high; a block written one row too low."""
    expected = whole_output(maker(), case_of(transfer, sampling, 0, 1).spec)

    for num_early, num_output in ((0, 1), (0, 9), (1, 1), (3, 8), (6, 7), (13, 13)):
        case = case_of(transfer, sampling, num_early, num_output)
        assert migrated_output(maker(), maker(), case) == expected


def busy(engine: Engine) -> Engine:
    """Add two other sequences, of other lengths, to an engine."""
    for number, length in enumerate((4, 17)):
        engine.start(SequenceSpec(f"other {number}", PROMPT[-length:], 60))
        step_until_output(engine, f"other {number}", 2)
    return engine


@pytest.mark.parametrize("transfer", CacheTransfer)
def test_moving_between_busy_engines_changes_nothing(
    maker: EngineMaker, transfer: CacheTransfer
) -> None:
    case = case_of(transfer, "sampled", 2, 7)
    expected = whole_output(maker(), case.spec)

    assert migrated_output(busy(maker()), busy(maker()), case) == expected


@pytest.mark.parametrize("transfer", CacheTransfer)
def test_any_resume_point_of_the_timed_engine_will_do(transfer: CacheTransfer) -> None:
    make = TimedMaker()
    expected = whole_output(make(), case_of(transfer, "sampled", 0, 1).spec)

    for num_output in range(1, NUM_OUTPUT):
        for num_early in range(num_output + 1):
            case = case_of(transfer, "sampled", num_early, num_output)
            assert migrated_output(make(), make(), case) == expected


def test_the_campaign_finds_nothing_that_must_not_be(models: Path) -> None:
    measured = list(identity.cells(models, 4, size=identity.PointSize(24, 12)))

    assert len(measured) == 18
    assert [cell for cell in measured if cell.must_be_identical and cell.num_different] == []
