"""The numbers of a sequence never reach another, not even as infinities behind a mask."""

from pathlib import Path

import pytest
import torch

from experiments.campaigns.engine.driving import drained, whole_output
from experiments.campaigns.engine.makers import TransformersMaker
from sllmreal.engine.protocol import Engine, KVBlock, SequenceSpec

FAMILIES = ("falcon", "llama")  # with and without our own attention
SHORT = SequenceSpec("short", (5, 6, 7), 12)
LONG = SequenceSpec("long", tuple(range(40)), 12)


def start_poisoned(engine: Engine) -> None:
    """Start a sequence of 30 tokens and fill its cache with NaNs."""
    engine.start(SequenceSpec("poison", (1,) * 30, 40), held=True)
    layer_bytes = 30 * engine.capabilities.kv_bytes_per_token // 2
    nan = torch.full((layer_bytes // 4,), torch.nan).view(torch.uint8).numpy().data
    engine.import_kv("poison", KVBlock(0, 30, (nan, nan)))
    engine.release("poison")


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_sequence_leaves_behind_is_gone(models: Path, family: str) -> None:
    """Seeded: rows that are not cleared; memory that is not zero at first."""
    make = TransformersMaker(models, f"{family}-tiny")
    expected = [whole_output(make(), spec) for spec in (SHORT, LONG)]
    engine = make()

    start_poisoned(engine)
    engine.step()
    engine.cancel("poison")
    for spec in (SHORT, LONG):
        engine.start(spec)
    drained(engine)

    assert [engine.output("short"), engine.output("long")] == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_a_poisoned_neighbour_harms_itself_alone(models: Path, family: str) -> None:
    make = TransformersMaker(models, f"{family}-tiny")
    expected = [whole_output(make(), spec) for spec in (SHORT, LONG)]
    engine = make()
    start_poisoned(engine)

    for spec in (SHORT, LONG):
        engine.start(spec)
    for _ in range(20):
        engine.step()
    engine.hold("poison")
    drained(engine)

    assert [engine.output("short"), engine.output("long")] == expected
