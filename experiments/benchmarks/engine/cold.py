"""Compare cold starts: from the request for a model to its first token, with a cold page cache.

On a CPU four methods alternate:

    spare        our worker with a pre-started engine process, which has done its imports
    worker       our worker without a spare: the new process imports while the weights are loaded
    fresh        from_pretrained of transformers in a new process
    imported     from_pretrained in a process that has done its imports and loaded a small model

The worker is a running service with its memory allocated and the model in its SSD tier. It has no
GPU engines, so on a GPU one method replaces the first two: `alone`, our loader and engine in a new
process.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from experiments.benchmarks.engine.cold_service import ColdService, MeasuredColdStart
from experiments.benchmarks.loading.campaign import drop_cached
from experiments.benchmarks.loading.models import PreparedModel

SPARE, WORKER, FRESH, IMPORTED, ALONE = "spare", "worker", "fresh", "imported", "alone"


@dataclass(frozen=True, slots=True)
class ColdRow:
    """A measured cold start: its method (`how`), model and round."""

    how: str
    model: str
    size_bytes: int
    round: int
    start: MeasuredColdStart


def compare(model: PreparedModel, device: str, rounds: int, work: Path) -> Iterator[ColdRow]:
    """Yield a row per round and method; the order of the methods rotates.

    Raises RuntimeError if a cold start fails or generates another token than the others.
    """
    with ExitStack() as stack:
        methods = _methods(model, device, work, stack)
        tokens = set()
        for number in range(rounds):
            for how in _rotated(list(methods), number):
                drop_cached(model)
                row = ColdRow(
                    how=how,
                    model=model.name,
                    size_bytes=model.size_bytes,
                    round=number,
                    start=methods[how](),
                )
                tokens.add(row.start.token)
                if len(tokens) > 1:
                    raise RuntimeError(f"{how!r} generates another first token: {sorted(tokens)}")
                yield row


def _methods(
    model: PreparedModel, device: str, work: Path, stack: ExitStack
) -> dict[str, Callable[[], MeasuredColdStart]]:
    transformers = {
        FRESH: lambda: _in_process("fresh", str(model.directory), device),
        IMPORTED: lambda: _in_process("imported", str(model.directory), device),
    }
    if device != "cpu":
        return {ALONE: lambda: _in_process("alone", str(model.native), device), **transformers}
    service = stack.enter_context(ColdService(model, work / "ssd"))
    return {
        SPARE: lambda: service.first_token(with_spare=True),
        WORKER: lambda: service.first_token(with_spare=False),
        **transformers,
    }


def _in_process(how: str, path: str, device: str) -> MeasuredColdStart:
    """Measure a cold start in a `cold_process`.

    Time runs from the start of the process, or, if it prints "ready", from the answer to that.
    """
    command = [
        sys.executable,
        "-m",
        "experiments.benchmarks.engine.cold_process",
        how,
        path,
        device,
    ]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "HF_HUB_OFFLINE": "1"}
    began_s = time.perf_counter()
    with subprocess.Popen(  # noqa: S603
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        line = process.stdout.readline()
        if line == "ready\n":
            began_s = time.perf_counter()
            process.stdin.write("go\n")
            process.stdin.flush()
            line = process.stdout.readline()
        total_s = time.perf_counter() - began_s
    if process.returncode != 0 or not line:
        raise RuntimeError(f"the cold start {how!r} failed with exit status {process.returncode}")
    measured = json.loads(line)
    return MeasuredColdStart(total_s, measured["phases"], measured["token"])


def _rotated(methods: list[str], number: int) -> list[str]:
    first = number % len(methods)
    return [*methods[first:], *methods[:first]]
