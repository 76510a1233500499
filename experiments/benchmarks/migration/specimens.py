"""The models that migrate: "timed", or random weights of a family and size, as "llama-small"."""

import json
from dataclasses import dataclass
from pathlib import Path

from sllmreal.checkpoint.source import read_layout
from sllmreal.control.deployment import ModelDeployment
from sllmreal.engine.registry import ENGINES
from sllmreal.worker.process_options import ProcessOptions

TIMED = "timed"
# Half of a 7B model in fp16 on an A40 by roofline would be 3,500 tokens/s; faster, to measure more.
TIMED_PACE = {"prefill_token_s": 1 / 20_000, "decode_step_s": 0.01}


@dataclass(frozen=True, slots=True)
class Specimen:
    """A model, and the processes that run it."""

    model: str
    dtype: str
    spec: ModelDeployment
    options: ProcessOptions


def is_weightless(model: str) -> bool:
    """Return whether a model is only the name of an engine, whose models need no weights."""
    return model in ENGINES and not ENGINES[model].needs_weights


def prepare(model: str, dtype: str, context_tokens: int, work: Path, num_threads: int) -> Specimen:
    """Write the model's files where they are missing. Contexts are up to `context_tokens`."""
    options = ProcessOptions(environment={"OMP_NUM_THREADS": str(num_threads)})
    if is_weightless(model):
        timed = ModelDeployment(
            model, "", 1, context_tokens, 0.0, model, num_slots=2, settings=TIMED_PACE
        )
        return Specimen(model, "none", timed, options)
    directory = work / f"{model}-{dtype}"
    if not (directory / "model.safetensors").exists():
        _write(directory, model, dtype)
    _lengthen(directory / "config.json", context_tokens)
    size_bytes = read_layout(directory).size_bytes
    spec = ModelDeployment(model, str(directory), size_bytes, context_tokens, 0.0, num_slots=2)
    return Specimen(model, dtype, spec, options)


def _write(directory: Path, model: str, dtype: str) -> None:
    import torch

    from sllmreal.engine.samples import write_sample

    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    write_sample(directory, model, dtype=dtypes[dtype])


def _lengthen(config: Path, context_tokens: int) -> None:
    """Rotary positions go as far as one likes; random weights were trained for no length."""
    described = json.loads(config.read_text())
    described["max_position_embeddings"] = max(context_tokens, described["max_position_embeddings"])
    config.write_text(json.dumps(described))
