"""Campaign: is migrated output the output that would have come without? By dtype and strategy.

    python -m experiments.campaigns.engine.identity --points 500

A point is a random prompt, a random output index to move at, and a random index that the
destination already knew. float32 must never differ, nor may a copied cache in any dtype; token
replay in half precision differs now and then, because prefill and decode round differently, and
its rate is a measurement.
"""

import argparse
import random
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from experiments.campaigns.engine.driving import whole_output
from experiments.campaigns.engine.makers import VOCABULARY, TransformersMaker
from experiments.campaigns.engine.migration import Move, Strategy, chosen_sampling, migrated_output
from sllmreal.engine.protocol import SequenceSpec

FAMILIES = ("falcon", "llama", "opt", "qwen")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SAMPLINGS = ("greedy", "sampled")


@dataclass(frozen=True, slots=True)
class Cell:
    """Points of one dtype, strategy and way of sampling, and how many came out otherwise."""

    dtype: str
    strategy: Strategy
    sampling: str
    num_points: int
    num_different: int

    @property
    def must_be_identical(self) -> bool:
        """A tail copied onto a replayed prefix follows what the prefix was computed from."""
        return self.dtype == "float32" or self.strategy is Strategy.COPY


@dataclass(frozen=True, slots=True)
class Size:
    """How long prompts and outputs are."""

    max_prompt: int = 60
    num_output: int = 48


DEFAULT_SIZE = Size()


def cells(
    directory: Path,
    num_points: int,
    seed: int = 0,
    size: Size = DEFAULT_SIZE,
    dtypes: Iterable[str] = tuple(DTYPES),
) -> Iterator[Cell]:
    """Every dtype, strategy and sampling, with `num_points` points each, spread over families."""
    for dtype in dtypes:
        kind, pairs = DTYPES[dtype], []
        for family in FAMILIES:
            make = TransformersMaker(directory, f"{family}-tiny", kind)
            pairs.append([make(num_slots=2, chunk_tokens=32) for _ in range(2)])
        for sampling in SAMPLINGS:
            moves = list(_moves(random.Random(seed), sampling, num_points, size))
            expected = [
                whole_output(pairs[number % len(pairs)][0], move.spec)
                for number, move in enumerate(moves)
            ]
            for strategy in Strategy:
                different = 0
                for number, move in enumerate(moves):
                    source, destination = pairs[number % len(pairs)]
                    output = migrated_output(source, destination, replace(move, strategy=strategy))
                    different += output != expected[number]
                yield Cell(dtype, strategy, sampling, len(moves), different)


def _moves(rng: random.Random, sampling: str, num_points: int, size: Size) -> Iterator[Move]:
    for number in range(num_points):
        length = rng.randint(1, size.max_prompt)
        prompt = tuple(rng.randrange(VOCABULARY) for _ in range(length))
        moves_at = rng.randint(1, size.num_output - 1)
        known = rng.randint(0, moves_at)
        rule = chosen_sampling(sampling, number)
        spec = SequenceSpec(f"p{number}", prompt, size.num_output, rule)
        yield Move(spec, Strategy.REPLAY, known, moves_at)


def main(argv: list[str] | None = None) -> int:
    """Print the table; 1 when output differed where it must not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--points", type=int, default=500, help="resume points in each cell")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    wrong = 0
    print(f"{'dtype':9} {'sampling':8} {'strategy':29} {'points':>6} {'differ':>6}")
    with tempfile.TemporaryDirectory() as directory:
        dtypes = arguments.dtypes
        for cell in cells(Path(directory), arguments.points, arguments.seed, dtypes=dtypes):
            bad = cell.must_be_identical and cell.num_different > 0
            wrong += bad
            print(
                f"{cell.dtype:9} {cell.sampling:8} {cell.strategy:29} {cell.num_points:6} "
                f"{cell.num_different:6}{'  MUST NOT' if bad else ''}",
                flush=True,
            )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
