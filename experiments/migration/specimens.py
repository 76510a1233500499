"""The models that migrate: "timed", or random weights of a family and size, as "llama-small"."""

import json
from dataclasses import dataclass
from pathlib import Path

from sllmreal.engine.host_options import HostOptions
from sllmreal.engine.process import HostSettings, encoded
from sllmreal.engine.registry import TransformersSettings
from sllmreal.engine.timed import Pace, TimedOptions
from sllmreal.migration.source import SourceOptions

TIMED = "timed"
# Half of a 7B model in fp16 on an A40 by roofline would be 3,500 tokens/s; faster, to measure more.
TIMED_PACE = Pace(prefill_token_s=1 / 20_000, decode_step_s=0.01)
# One chunk of prefill of a long context takes seconds on a CPU.
_PATIENT = HostOptions(lease_s=600.0, source=SourceOptions(stall_s=300.0, hold_s=60.0))


@dataclass(frozen=True, slots=True)
class Specimen:
    """A model, and the settings of a host that runs it."""

    model: str
    dtype: str
    settings: HostSettings


def prepare(model: str, dtype: str, context_tokens: int, work: Path, num_threads: int) -> Specimen:
    """Write the model's files where they are missing. Contexts are up to `context_tokens`."""
    if model == TIMED:
        options = TimedOptions(context_tokens=context_tokens, num_slots=2, pace=TIMED_PACE)
        return Specimen(model, "none", HostSettings(TIMED, encoded(options), options=_PATIENT))
    directory = work / f"{model}-{dtype}"
    if not (directory / "model.safetensors").exists():
        _write(directory, model, dtype)
    _lengthen(directory / "config.json", context_tokens)
    settings = TransformersSettings(
        str(directory), num_slots=2, context_tokens=context_tokens, num_threads=num_threads
    )
    host = HostSettings("transformers", encoded(settings), options=_PATIENT)
    return Specimen(model, dtype, host)


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
