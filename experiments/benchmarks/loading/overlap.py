"""The overlap of two stages: reads into the pool, and a second pass over every chunk.

overlap = (time of the slower stage alone) / (time of both as a pipeline)

Disks drift, so the time of reads alone is the mean of two: just before and just after both stages.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import xxhash

from sllmreal.checkpoint.source import opened_checkpoint
from sllmreal.loader import ChunkPool
from sllmreal.loader.memory import buffer_at
from sllmreal.loader.pipeline import PipelineStage, run_pipeline
from sllmreal.loader.plan import DEFAULT_CHUNK_BYTES, plan_load
from sllmreal.loader.reading import opened_reader


@dataclass(frozen=True, slots=True)
class Overlap:
    """Seconds of each stage alone and of both together."""

    first_s: float
    second_s: float
    both_s: float

    @property
    def ratio(self) -> float:
        """Time of the slower stage over the time of both; 1 is perfect overlap."""
        return max(self.first_s, self.second_s) / self.both_s


def measure_overlap(path: Path, passes: int, num_threads: int = 8) -> Overlap:
    """Read a checkpoint and hash every chunk `passes` times: each alone, then both overlapped."""
    with (
        opened_checkpoint(path) as opened,
        opened_reader(opened) as reader,
        ChunkPool(opened.layout.size_bytes + 2 * DEFAULT_CHUNK_BYTES) as pool,
    ):
        reads = plan_load(opened.layout).reads

        def read(number: int) -> None:
            reader.read_into(reads[number], pool.chunk_address(number))

        def hashed(number: int) -> None:
            data = buffer_at(pool.chunk_address(number), reads[number].size_bytes)
            for _ in range(passes):
                xxhash.xxh3_128_digest(data)

        first = PipelineStage("read", read, num_threads)
        second = PipelineStage("hash", hashed, 1)
        second_s = _timed([second], len(reads))
        before_s = _timed([first], len(reads))
        both_s = _timed([first, second], len(reads))
        after_s = _timed([first], len(reads))
        return Overlap((before_s + after_s) / 2, second_s, both_s)


def _timed(stages: list[PipelineStage], num_chunks: int) -> float:
    began_s = time.perf_counter()
    run_pipeline(stages, range(num_chunks), 16)
    return time.perf_counter() - began_s
