"""Models of the migration benchmark: "timed", or a sample with random weights ("llama-small")."""

import json
from dataclasses import dataclass
from pathlib import Path

from sllmreal.checkpoint.source import read_layout
from sllmreal.control.deployment import ModelDeployment
from sllmreal.engine.registry import ENGINES
from sllmreal.worker.process_options import ProcessOptions

TIMED = "timed"
# An A40 would prefill 3,500 tokens/s of a 7B model in fp16 at half of the roofline; this pace is
# faster, to measure more in the same time.
TIMED_PACE = {"prefill_token_s": 1 / 20_000, "decode_step_s": 0.01}


@dataclass(frozen=True, slots=True)
class BenchModel:
    """A model, and the options of the processes that run it."""

    model: str
    dtype: str
    spec: ModelDeployment
    options: ProcessOptions


def is_weightless(model: str) -> bool:
    """Return whether a model is only the name of an engine, whose models need no weights."""
    return model in ENGINES and not ENGINES[model].needs_weights


def prepare(
    model: str, dtype: str, context_tokens: int, work: Path, num_threads: int
) -> BenchModel:
    """Return a model for contexts up to `context_tokens`; write its files if they are missing."""
    options = ProcessOptions(environment={"OMP_NUM_THREADS": str(num_threads)})
    if is_weightless(model):
        timed = ModelDeployment(
            name=model,
            source="",
            size_bytes=1,
            context_tokens=context_tokens,
            created_at_s=0.0,
            engine=model,
            num_slots=2,
            settings=TIMED_PACE,
        )
        return BenchModel(model, "none", timed, options)
    directory = work / f"{model}-{dtype}"
    if not (directory / "model.safetensors").exists():
        _write(directory, model, dtype)
    _lengthen(directory / "config.json", context_tokens)
    size_bytes = read_layout(directory).size_bytes
    spec = ModelDeployment(
        name=model,
        source=str(directory),
        size_bytes=size_bytes,
        context_tokens=context_tokens,
        created_at_s=0.0,
        num_slots=2,
    )
    return BenchModel(model, dtype, spec, options)


def _write(directory: Path, model: str, dtype: str) -> None:
    import torch

    from sllmreal.engine.samples import write_sample

    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    write_sample(directory, model, dtype=dtypes[dtype])


def _lengthen(config: Path, context_tokens: int) -> None:
    """Raise the context limit in the configuration.

    Rotary positions have no limit, and random weights were trained for no length.
    """
    settings = json.loads(config.read_text())
    settings["max_position_embeddings"] = max(context_tokens, settings["max_position_embeddings"])
    config.write_text(json.dumps(settings))
