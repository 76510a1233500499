"""The warm-up of a process for transformers engines: a cold start in small.

Random weights of a tiny model go the way of an instance's, to its first token: transformers imports
much of itself only while it builds a model, torch chooses kernels when it first computes.
"""

from tempfile import TemporaryDirectory

import torch

from sllmreal.engine.build import EngineOptions, engine_of
from sllmreal.engine.protocol import SequenceSpec
from sllmreal.engine.samples import write_sample
from sllmreal.loader import load_checkpoint

SAMPLE = "llama-tiny"
DTYPES = (torch.bfloat16, torch.float16, torch.float32)


def warm_up() -> None:
    """Make an engine of each dtype on the CPU and generate a token; keep nothing of it."""
    for dtype in DTYPES:
        with TemporaryDirectory(prefix="sllm-warm-up-") as directory:
            write_sample(directory, SAMPLE, dtype=dtype)
            engine = engine_of(directory, load_checkpoint(directory), EngineOptions(num_slots=1))
            engine.start(SequenceSpec("warm-up", (1, 2, 3), 1))
            engine.step()
            engine.close()
