"""Prefills that share a forward pass, and prefills that do not."""

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from experiments.campaigns.engine.driving import drained, whole_output
from experiments.campaigns.engine.makers import VOCABULARY, TransformersMaker
from sllmreal.engine.model import Chosen
from sllmreal.engine.prefill import Prefill, passes
from sllmreal.engine.protocol import SequenceSpec
from sllmreal.engine.samples import FAMILIES
from sllmreal.engine.sequence import RunningSequence
from sllmreal.engine.slots import SlotEngine
from sllmreal.engine.transformers_model import ModelOptions, TransformersModel


def specs(*lengths: int, num_output: int = 12) -> list[SequenceSpec]:
    rng = random.Random(8)
    return [
        SequenceSpec(str(number), tuple(rng.choices(range(VOCABULARY), k=length)), num_output)
        for number, length in enumerate(lengths)
    ]


def prefills(*spans: tuple[int, int]) -> list[Prefill]:
    found = []
    for number, (begin, end) in enumerate(spans):
        sequence = RunningSequence(SequenceSpec(str(number), (1,) * 100, 9), held=False)
        sequence.num_cached = begin
        found.append(Prefill(sequence, end, sample=False))
    return found


def shared(*spans: tuple[int, int]) -> list[list[str]]:
    rows = passes(prefills(*spans))
    return [[one.sequence.spec.request_id for one in row] for row in rows]


def test_prefills_at_the_beginning_share_a_pass_with_similar_ones() -> None:
    assert shared((0, 10), (0, 40), (0, 9), (0, 21)) == [["1", "3"], ["0", "2"]]


def test_prefills_that_continue_a_cache_are_computed_alone() -> None:
    assert shared((10, 40), (0, 30), (10, 40)) == [["1"], ["0"], ["2"]]


class Watched(TransformersModel):
    """Records the number of rows of each prefill."""

    def __init__(self, maker: TransformersMaker) -> None:
        super().__init__(maker.model, ModelOptions(maker.name, 8, 128))
        self.rows: list[int] = []

    def prefill(self, rows: Sequence[Prefill]) -> list[Chosen | None]:
        self.rows.append(len(rows))
        return super().prefill(rows)


@pytest.mark.parametrize("lengths", [(20, 20, 20, 20), (33, 17, 25, 30, 18)])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_shared_pass_gives_each_what_it_gets_alone(
    models: Path, family: str, lengths: tuple[int, ...]
) -> None:
    """Seeded: the last row's end for every row; rows in the order of their slots."""
    maker = TransformersMaker(models, f"{family}-tiny")
    asked = specs(*lengths)
    alone = [whole_output(maker(), one) for one in asked]
    model = Watched(maker)
    engine = SlotEngine(model)
    engine.start(SequenceSpec("before", (1, 2, 3), 40))
    engine.step()
    engine.start(specs(4)[0])
    engine.cancel("0")  # its row becomes free, so that the rows of the others have a gap

    for one in asked:
        engine.start(one)
    drained(engine)

    assert [engine.output(one.request_id) for one in asked] == alone
    assert model.rows == [1, len(lengths)]


def test_held_and_generating_sequences_share_a_pass(models: Path) -> None:
    maker = TransformersMaker(models, "llama-tiny")
    first, second = specs(20, 24)
    alone = [whole_output(maker(), one) for one in (first, second)]
    engine = maker(chunk_tokens=256)

    engine.start(first, held=True)
    engine.start(second)
    tokens = engine.step()
    engine.release("0")
    drained(engine)

    assert [token.request_id for token in tokens] == ["1"]
    assert [engine.output("0"), engine.output("1")] == alone


def test_padding_is_written_nowhere(models: Path) -> None:
    maker = TransformersMaker(models, "llama-tiny")
    model = TransformersModel(maker.model, ModelOptions("llama-tiny", 2, 128))
    engine = SlotEngine(model)
    for one in specs(20, 30):
        engine.start(one, held=True)

    drained(engine)

    beyond = model._cache._kv[:, :, 0, :, 19:]
    assert torch.equal(beyond, torch.zeros_like(beyond))
