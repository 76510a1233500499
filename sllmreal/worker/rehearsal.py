"""A cold start in small: what it imports and initialises is there for the real one.

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


def rehearse() -> None:
    """Start such an engine on the CPU and let it say a token; nothing of it is kept."""
    for dtype in DTYPES:
        with TemporaryDirectory(prefix="sllm-rehearsal-") as directory:
            write_sample(directory, SAMPLE, dtype=dtype)
            engine = engine_of(directory, load_checkpoint(directory), EngineOptions(num_slots=1))
            engine.start(SequenceSpec("rehearsal", (1, 2, 3), 1))
            engine.step()
            engine.close()
