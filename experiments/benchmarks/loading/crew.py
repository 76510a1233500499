"""The loading processes, one per loader. A process that dies is started again, once.

If a loader's process dies twice, the loader is reported and left out; its earlier rows are kept.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from experiments.benchmarks.loading.breakdown import POOL_STEPS
from experiments.benchmarks.loading.loaders import POOL_LOADERS
from experiments.benchmarks.loading.models import PreparedModel
from sllmreal.loader.plan import DEFAULT_CHUNK_BYTES

_MAX_DEATHS = 2


class WorkerDiedError(Exception):
    """The process of a loader ended, or could not be started."""


class LoaderProcess:
    """A process that loads with one loader, on request."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.pid = process.pid
        self._process = process

    def load(self, model: PreparedModel, *, cold: bool) -> dict[str, Any]:
        """Measure one load. Raises WorkerDiedError."""
        fields = {
            key: str(value) if isinstance(value, Path) else value
            for key, value in asdict(model).items()
        }
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"model": fields, "cold": cold}) + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise WorkerDiedError(f"its process has ended: {error}") from error
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """Wait for the next answer of the process. Raises WorkerDiedError."""
        assert self._process.stdout is not None
        while line := self._process.stdout.readline():
            if line.startswith("{"):  # other loaders print to stdout as well
                parsed: dict[str, Any] = json.loads(line)
                return parsed
        raise WorkerDiedError(f"its process ended with {self._process.wait()}")


@contextmanager
def started_worker(loader: str, model: PreparedModel, device: str) -> Iterator[LoaderProcess]:
    """Start a worker, which is ready when imports are done and the pool is faulted in."""
    needs_pool = loader in (*POOL_LOADERS, *POOL_STEPS)
    pool_bytes = model.size_bytes + 4 * DEFAULT_CHUNK_BYTES if needs_pool else 0
    command = [
        sys.executable,
        "-m",
        "experiments.benchmarks.loading.worker",
        loader,
        str(pool_bytes),
        device,
    ]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "HF_HUB_OFFLINE": "1"}
    with subprocess.Popen(  # noqa: S603
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        worker = LoaderProcess(process)
        try:
            worker.answer()
            yield worker
        finally:
            process.terminate()
            process.wait()
            assert process.stdin is not None
            with suppress(BrokenPipeError):  # from a command that the process did not read
                process.stdin.close()


def _as_it_is(pid: int) -> AbstractContextManager[object]:
    return nullcontext()


class Crew:
    """Workers by loader, as a context manager; each process runs inside the context `around`."""

    def __init__(
        self,
        loaders: Sequence[str],
        model: PreparedModel,
        device: str,
        around: Callable[[int], AbstractContextManager[object]] = _as_it_is,
    ) -> None:
        self._model = model
        self._device = device
        self._around = around
        self._deaths = dict.fromkeys(loaders, 0)
        self._workers: dict[str, LoaderProcess] = {}
        self._stacks: dict[str, ExitStack] = {}

    def __enter__(self) -> "Crew":
        try:
            for loader in self._deaths:
                self._start(loader)
        except BaseException:
            self._stop_all()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop_all()

    @property
    def loaders(self) -> list[str]:
        """The loaders that are not left out."""
        return list(self._workers)

    def load(self, loader: str, *, cold: bool) -> dict[str, Any] | None:
        """Measure one load; return None if the loader's process died."""
        try:
            return self._workers[loader].load(self._model, cold=cold)
        except WorkerDiedError as error:
            self._died(loader, error)
            return None

    def _start(self, loader: str) -> None:
        stack = ExitStack()
        try:
            worker = stack.enter_context(started_worker(loader, self._model, self._device))
            stack.enter_context(self._around(worker.pid))
            self._workers[loader] = worker
            self._stacks[loader] = stack
        except WorkerDiedError as error:
            self._died(loader, error)

    def _died(self, loader: str, error: WorkerDiedError) -> None:
        self._workers.pop(loader, None)
        if (stack := self._stacks.pop(loader, None)) is not None:
            stack.close()
        self._deaths[loader] += 1
        again = self._deaths[loader] < _MAX_DEATHS
        then = "started again" if again else "left out from now on"
        sys.stderr.write(f"{loader} on {self._model.name}: {error}; {then}\n")
        if again:
            self._start(loader)

    def _stop_all(self) -> None:
        for stack in self._stacks.values():
            stack.close()
