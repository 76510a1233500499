"""Compare migrated with unmigrated output, by dtype, sampling and transfer of the KV cache.

    python -m experiments.campaigns.engine.identity --points 500
    python -m experiments.campaigns.engine.identity --points 300 --engine vllm

Each point is a random prompt, a random output index at which the sequence migrates between two
engines of the same tiny model, and a random number of tokens that the destination had before. With
--engine vllm the engines are vLLM's, in vLLM's Python (`make vllm`); with --engine both, sequences
migrate from vLLM to the transformers engine and back.

Checks that outputs are equal in float32, and in every dtype if the whole cache was copied; with
--engine both, that greedy outputs are equal in float32. Token replay in half precision may differ,
because prefill and decode round differently; the table shows how often.

Duration: about 8 minutes for 500 points per cell. Exit status: 1 if an output differs that must be
equal.
"""

import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import torch

from experiments.benchmarks.terminal import command_parser
from experiments.campaigns.engine.driving import (
    CacheTransfer,
    MigrationCase,
    migrated_output,
    sampling_of,
    whole_output,
)
from experiments.campaigns.engine.makers import VOCABULARY, EngineMaker, TransformersMaker
from sllmreal.engine.protocol import SequenceSpec
from sllmreal.engine.vllm.interpreter import vllm_environment, vllm_python

MODULE = "experiments.campaigns.engine.identity"
FAMILIES = ("falcon", "llama", "opt", "qwen")
VLLM_FAMILIES = ("llama", "qwen")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SAMPLINGS = ("greedy", "sampled")
ENGINES = ("transformers", "vllm", "both")


@dataclass(frozen=True, slots=True)
class IdentityCell:
    """Points of one dtype, transfer and sampling, and the number of different outputs."""

    dtype: str
    transfer: CacheTransfer
    sampling: str
    num_points: int
    num_different: int
    same_engine: bool = True

    @property
    def must_be_identical(self) -> bool:
        """True in float32, and if the whole cache was copied between engines of one kind.

        Between two kinds of engines only greedy output must be identical: their logits differ by
        rounding, which moves a random draw at the edge of two tokens.
        A tail that is copied behind a replayed prefix does not undo the rounding of the prefix.
        """
        if not self.same_engine:
            return self.dtype == "float32" and self.sampling == "greedy"
        return self.dtype == "float32" or self.transfer is CacheTransfer.COPY


@dataclass(frozen=True, slots=True)
class PointSize:
    """The longest prompt and the length of each output, in tokens."""

    max_prompt: int = 60
    num_output: int = 48


DEFAULT_SIZE = PointSize()


@dataclass(frozen=True, slots=True)
class EnginePair:
    """Makers of the engine that a sequence leaves, and of the engine that it migrates to."""

    source: EngineMaker
    destination: EngineMaker


def engine_pairs(engine: str, directory: Path, dtype: torch.dtype) -> list[EnginePair]:
    """Return the pairs of engines that the points of a cell are spread over.

    Args:
        engine: "transformers", "vllm", or "both": from one to the other and back.
        directory: Sample models are written here.
        dtype: The data type of the weights.
    """
    if engine == "transformers":
        makers = [TransformersMaker(directory, f"{family}-tiny", dtype) for family in FAMILIES]
        return [EnginePair(maker, maker) for maker in makers]
    from experiments.campaigns.engine.vllm_maker import VllmMaker  # vLLM's environment has it

    found = []
    for family in VLLM_FAMILIES:
        vllm = VllmMaker(directory, f"{family}-mini", dtype)
        if engine == "vllm":
            found.append(EnginePair(vllm, vllm))
        else:
            other = TransformersMaker(directory, f"{family}-mini", dtype)
            found += [EnginePair(vllm, other), EnginePair(other, vllm)]
    return found


def cells(
    directory: Path,
    num_points: int,
    seed: int = 0,
    size: PointSize = DEFAULT_SIZE,
    dtypes: Iterable[str] = tuple(DTYPES),
    engine: str = "transformers",
) -> Iterator[IdentityCell]:
    """Yield a cell per dtype, sampling and transfer; its points are spread over model families."""
    same_engine = engine != "both"
    for dtype in dtypes:
        pairs = [
            [make(num_slots=2, chunk_tokens=32) for make in (pair.source, pair.destination)]
            for pair in engine_pairs(engine, directory, DTYPES[dtype])
        ]
        for sampling in SAMPLINGS:
            cases = list(_cases(random.Random(seed), sampling, num_points, size))
            expected = [
                whole_output(pairs[number % len(pairs)][0], case.spec)
                for number, case in enumerate(cases)
            ]
            for transfer in CacheTransfer:
                different = 0
                for number, case in enumerate(cases):
                    source, destination = pairs[number % len(pairs)]
                    output = migrated_output(source, destination, replace(case, transfer=transfer))
                    different += output != expected[number]
                yield IdentityCell(
                    dtype=dtype,
                    transfer=transfer,
                    sampling=sampling,
                    num_points=len(cases),
                    num_different=different,
                    same_engine=same_engine,
                )


def _cases(
    rng: random.Random, sampling: str, num_points: int, size: PointSize
) -> Iterator[MigrationCase]:
    for number in range(num_points):
        length = rng.randint(1, size.max_prompt)
        prompt = tuple(rng.randrange(VOCABULARY) for _ in range(length))
        num_output = rng.randint(1, size.num_output - 1)
        num_early = rng.randint(0, num_output)
        spec = SequenceSpec(f"p{number}", prompt, size.num_output, sampling_of(sampling, number))
        yield MigrationCase(spec, CacheTransfer.REPLAY, num_early, num_output)


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line per cell; return 1 if an output differs that must be equal."""
    parser = command_parser(MODULE, __doc__)
    parser.add_argument("--points", type=int, default=500, help="migrations in each cell")
    parser.add_argument("--seed", type=int, default=0, help="random seed of the points")
    parser.add_argument(
        "--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES), help="of weights"
    )
    parser.add_argument(
        "--engine", choices=ENGINES, default="transformers", help="engines to migrate between"
    )
    arguments = parser.parse_args(argv)
    if arguments.engine != "transformers" and find_spec("vllm") is None:
        return _run_in_vllm_python(sys.argv[1:] if argv is None else argv)
    torch.set_num_threads(1)
    wrong = 0
    print(f"{'dtype':9} {'sampling':8} {'transfer':29} {'points':>6} {'differ':>6}")
    with tempfile.TemporaryDirectory() as directory:
        for cell in cells(
            Path(directory),
            arguments.points,
            arguments.seed,
            dtypes=arguments.dtypes,
            engine=arguments.engine,
        ):
            bad = cell.must_be_identical and cell.num_different > 0
            wrong += bad
            print(
                f"{cell.dtype:9} {cell.sampling:8} {cell.transfer:29} {cell.num_points:6} "
                f"{cell.num_different:6}{'  MUST BE 0' if bad else ''}",
                flush=True,
            )
    return 1 if wrong else 0


def _run_in_vllm_python(argv: Sequence[str]) -> int:
    python = vllm_python()
    environment = {**os.environ, **vllm_environment(python)}
    command = [str(python), "-m", MODULE, *argv]
    return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
