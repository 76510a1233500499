"""Hashing what is resident once more before it is handed out: memory has its faults too.

A chunk that differs is read again from the file, into the same chunk of the pool: who has tensors
on it sees the right bytes from then on.
"""

from collections.abc import Mapping

from sllmreal.checkpoint.errors import CorruptCheckpointError
from sllmreal.loader.fill import Check
from sllmreal.loader.pipeline import PipelineStage, run_pipeline
from sllmreal.loader.plan import ChunkKey, LoadPlan
from sllmreal.loader.pool import ChunkPool
from sllmreal.loader.transfer import LoadOptions, verify_chunk


def resident_check(pool: ChunkPool, options: LoadOptions) -> Check | None:
    """The check that `options` ask for, if any, over all verifying threads.

    It costs a read of the resident bytes from memory: 20 GB/s per thread on Zen 5. Formats without
    hashes have nothing to check.
    """
    if not options.verify_resident:
        return None

    def check(plan: LoadPlan, resident: Mapping[ChunkKey, int]) -> set[ChunkKey]:
        reads = [read for read in plan.reads if read.key in resident]
        spoilt: set[ChunkKey] = set()

        def verify(number: int) -> None:
            read = reads[number]
            try:
                verify_chunk(plan.layout, read, pool.chunk_address(resident[read.key]))
            except CorruptCheckpointError:
                spoilt.add(read.key)

        if plan.layout.chunk_bytes is not None:
            stage = PipelineStage("verify", verify, options.num_verifiers)
            run_pipeline([stage], range(len(reads)), options.queue_chunks)
        return spoilt

    return check
