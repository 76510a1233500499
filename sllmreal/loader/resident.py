"""Verification of resident chunks before they are handed out, against faults of memory.

A chunk that differs from its hash is read again from the file, into the same chunk of the pool:
existing tensors over it then have the right bytes.
"""

from collections.abc import Mapping

from sllmreal.checkpoint.errors import CorruptCheckpointError
from sllmreal.loader.fill import Check
from sllmreal.loader.pipeline import PipelineStage, run_pipeline
from sllmreal.loader.plan import ChunkKey, LoadPlan
from sllmreal.loader.pool import ChunkPool
from sllmreal.loader.transfer import LoadOptions, verify_chunk


def resident_check(pool: ChunkPool, options: LoadOptions) -> Check | None:
    """Return a check of resident chunks with `num_verifiers` threads; None if not requested.

    The check reads all resident bytes: 20 GB/s per thread on Zen 5. It finds nothing in formats
    without hashes.
    """
    if not options.verify_resident:
        return None

    def check(plan: LoadPlan, resident: Mapping[ChunkKey, int]) -> set[ChunkKey]:
        reads = [read for read in plan.reads if read.key in resident]
        corrupt: set[ChunkKey] = set()

        def verify(number: int) -> None:
            read = reads[number]
            try:
                verify_chunk(plan.layout, read, pool.chunk_address(resident[read.key]))
            except CorruptCheckpointError:
                corrupt.add(read.key)

        if plan.layout.chunk_bytes is not None:
            stage = PipelineStage("verify", verify, options.num_verifiers)
            run_pipeline([stage], range(len(reads)), options.queue_chunks, pool.closing)
        return corrupt

    return check
