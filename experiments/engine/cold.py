"""From no process at all to the first token, the model's files dropped from the page cache."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from experiments.loading.campaign import drop_cached
from experiments.loading.models import Prepared

OURS, THEIRS = "ours", "transformers"


@dataclass(frozen=True, slots=True)
class ColdRow:
    """One cold start. `process_s` runs from the spawn to the first token."""

    how: str
    model: str
    size_bytes: int
    round: int
    process_s: float
    inside_s: float  # without the start of the interpreter
    phases: dict[str, float]
    token: int


def compare(model: Prepared, device: str, rounds: int) -> Iterator[ColdRow]:
    """Rows of both, each in a fresh process, in turn. Raises RuntimeError when one fails."""
    for number in range(rounds):
        for how, path in ((OURS, model.native), (THEIRS, model.directory)):
            drop_cached(model)
            yield _started(how, str(path), model, device, number)


def _started(how: str, path: str, model: Prepared, device: str, number: int) -> ColdRow:
    command = [sys.executable, "-m", "experiments.engine.cold_worker", how, path, device]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "HF_HUB_OFFLINE": "1"}
    began_s = time.perf_counter()
    with subprocess.Popen(  # noqa: S603
        command, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        process_s = time.perf_counter() - began_s
    if process.returncode != 0 or not line:
        raise RuntimeError(f"the cold start of {how} ended with {process.returncode}")
    told = json.loads(line)
    return ColdRow(
        how,
        model.name,
        model.size_bytes,
        number,
        process_s,
        told["inside_s"],
        told["phases"],
        told["token"],
    )
