"""From the wish to have a model to its first token, the model's files not in the page cache.

On a CPU four ways take turns:

    spare        our worker, which has a process booted ahead: imports are done
    worker       our worker without one: a process is started, and imports while weights come
    fresh        from_pretrained of transformers in a new process, as a script does it
    imported     from_pretrained in a process that has imported all and tried it on a small model

The worker is a service that runs, with its memory; its model lies in its SSD tier. On a GPU, which
the worker has no engines for, `alone` stands for the first two: our loader and engine in a process.
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

from experiments.benchmarks.engine.cold_service import ColdService
from experiments.benchmarks.engine.cold_start import StartMethod
from experiments.benchmarks.loading.campaign import drop_cached
from experiments.benchmarks.loading.models import PreparedModel

SPARE, WORKER, FRESH, IMPORTED, ALONE = "spare", "worker", "fresh", "imported", "alone"


@dataclass(frozen=True, slots=True)
class ColdRow:
    """One cold start."""

    how: str
    model: str
    size_bytes: int
    round: int
    start: StartMethod


def compare(model: PreparedModel, device: str, rounds: int, work: Path) -> Iterator[ColdRow]:
    """Rows of every way, in turn, another one first in each round.

    Raises RuntimeError when one fails, or says another token.
    """
    with ExitStack() as stack:
        ways = _ways(model, device, work, stack)
        tokens = set()
        for number in range(rounds):
            for how in _rotated(list(ways), number):
                drop_cached(model)
                row = ColdRow(how, model.name, model.size_bytes, number, ways[how]())
                tokens.add(row.start.token)
                if len(tokens) > 1:
                    raise RuntimeError(f"{how} says another token: {sorted(tokens)}")
                yield row


def _ways(
    model: PreparedModel, device: str, work: Path, stack: ExitStack
) -> dict[str, Callable[[], StartMethod]]:
    theirs = {
        FRESH: lambda: _in_process("fresh", str(model.directory), device),
        IMPORTED: lambda: _in_process("imported", str(model.directory), device),
    }
    if device != "cpu":
        return {ALONE: lambda: _in_process("alone", str(model.native), device), **theirs}
    service = stack.enter_context(ColdService(model, work / "ssd"))
    return {
        SPARE: lambda: service.first_token(with_spare=True),
        WORKER: lambda: service.first_token(with_spare=False),
        **theirs,
    }


def _in_process(how: str, path: str, device: str) -> StartMethod:
    """`cold_worker`'s word. A process that says that it is ready is told to go, and its time runs
    from then on; that of others from their beginning."""
    command = [sys.executable, "-m", "experiments.benchmarks.engine.cold_worker", how, path, device]
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
        raise RuntimeError(f"the cold start {how!r} ended with {process.returncode}")
    told = json.loads(line)
    return StartMethod(total_s, told["phases"], told["token"])


def _rotated(hows: list[str], number: int) -> list[str]:
    first = number % len(hows)
    return [*hows[first:], *hows[:first]]
