"""Interleaved rounds: every loader once per round, in a process of its own, cold then hot.

ratio_to_limit = limit_s / seconds,  the limit measured in the same round.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from experiments.loading.breakdown import ALL_STEPS, POOL_STEPS
from experiments.loading.limits import copy_seconds, fio_seconds, pinned_copy_seconds
from experiments.loading.loaders import POOL_LOADERS, available, prepare_tensorizer
from experiments.loading.models import Prepared
from sllmreal.loader.plan import DEFAULT_CHUNK_BYTES


@dataclass(frozen=True, slots=True)
class Row:
    """One load, or one limit, as `loading.json` holds it."""

    loader: str
    model: str
    size_bytes: int
    cache: str  # cold, hot, or the medium or link that was emulated
    device: str
    round: int
    seconds: float
    bytes_per_s: float
    ratio_to_limit: float | None = None
    peak_rss_bytes: int | None = None
    minor_faults: int | None = None
    major_faults: int | None = None


class Worker:
    """A process that loads with one loader when told."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.pid = process.pid
        self._process = process

    def load(self, model: Prepared, *, cold: bool) -> dict[str, Any]:
        """Measure one load. Raises RuntimeError when the loader failed."""
        fields = {
            key: str(value) if isinstance(value, Path) else value
            for key, value in asdict(model).items()
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"model": fields, "cold": cold}) + "\n")
        self._process.stdin.flush()
        return self.answer()

    def answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        while line := self._process.stdout.readline():
            if line.startswith("{"):  # peers print to stdout as well
                parsed: dict[str, Any] = json.loads(line)
                return parsed
        raise RuntimeError(f"the worker ended with {self._process.wait()}")


@contextmanager
def started_worker(loader: str, model: Prepared, device: str) -> Iterator[Worker]:
    """A worker that is ready: imports done, the pool faulted in."""
    needs_pool = loader in (*POOL_LOADERS, *POOL_STEPS)
    pool_bytes = model.size_bytes + 4 * DEFAULT_CHUNK_BYTES if needs_pool else 0
    command = [sys.executable, "-m", "experiments.loading.worker", loader, str(pool_bytes), device]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "HF_HUB_OFFLINE": "1"}
    with subprocess.Popen(  # noqa: S603
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        worker = Worker(process)
        try:
            worker.answer()
            yield worker
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.terminate()


def drop_cached(model: Prepared) -> None:
    """Forget the model's files, and only those, from the page cache; needs no privilege."""
    root = model.directory.parent
    for file in root.rglob("*"):
        if file.is_file():
            fd = os.open(file, os.O_RDONLY)
            try:
                os.fsync(fd)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(fd)


def compare(model: Prepared, rounds: int, device: str) -> Iterator[Row]:
    """Rows of every available loader on one model, cold then hot, and of the limits."""
    loaders = available(model.name)
    if "tensorizer" in loaders:
        prepare_tensorizer(model)
    with ExitStack() as stack:
        workers = {
            loader: stack.enter_context(started_worker(loader, model, device)) for loader in loaders
        }
        for number in range(rounds):
            drop_cached(model)
            limit_s = fio_seconds(model.native / "partition-00000.bin")
            if limit_s is not None:
                yield _limit("fio", model, "cold", number, limit_s)
            copy_s = copy_seconds(model.size_bytes)
            if device != "cpu":
                copy_s = pinned_copy_seconds(model.size_bytes, device)
            yield _limit("memory copy", model, "hot", number, copy_s)
            for cache, bound_s in (("cold", limit_s), ("hot", copy_s)):
                for loader, worker in workers.items():
                    row = _row(loader, worker, model, (cache, bound_s), number, device)
                    if row is not None:
                        yield row


def _row(
    loader: str,
    worker: Worker,
    model: Prepared,
    bound: tuple[str, float | None],
    number: int,
    device: str,
) -> Row | None:
    cache, limit_s = bound
    if cache == "cold":
        drop_cached(model)
    try:
        measured = worker.load(model, cold=cache == "cold")
    except (RuntimeError, OSError) as error:
        sys.stderr.write(f"{loader} on {model.name}: {error}\n")
        return None
    return _measured_row(loader, model, (cache, limit_s), number, device, measured)


def _measured_row(
    loader: str,
    model: Prepared,
    bound: tuple[str, float | None],
    number: int,
    device: str,
    measured: dict[str, Any],
) -> Row:
    cache, limit_s = bound
    seconds = float(measured["seconds"])
    return Row(
        loader=loader,
        model=model.name,
        size_bytes=model.size_bytes,
        cache=cache,
        device=device,
        round=number,
        seconds=seconds,
        bytes_per_s=model.size_bytes / seconds,
        ratio_to_limit=limit_s / seconds if limit_s else None,
        peak_rss_bytes=measured["peak_rss_bytes"],
        minor_faults=measured["minor_faults"],
        major_faults=measured["major_faults"],
    )


def _limit(name: str, model: Prepared, cache: str, number: int, seconds: float) -> Row:
    rate = model.size_bytes / seconds
    return Row(name, model.name, model.size_bytes, cache, "cpu", number, seconds, rate, 1.0)


def breakdown(model: Prepared, rounds: int) -> Iterator[Row]:
    """Rows of the steps from a naive loader to ours, cold."""
    with ExitStack() as stack:
        workers = {
            step: stack.enter_context(started_worker(step, model, "cpu")) for step in ALL_STEPS
        }
        for number in range(rounds):
            drop_cached(model)
            limit_s = fio_seconds(model.native / "partition-00000.bin")
            for step, worker in workers.items():
                row = _row(step, worker, model, ("cold", limit_s), number, "cpu")
                if row is not None:
                    yield row


def on_media(
    model: Prepared, rates_bytes_per_s: dict[str, float], throttle: Any, rounds: int
) -> Iterator[Row]:
    """Rows of a few loaders on emulated media: `throttle(pid, rate)` limits a worker's reads."""
    loaders = ("ours pool", "ours", "safetensors", "torch.load")
    for medium, rate in rates_bytes_per_s.items():
        with ExitStack() as stack:
            workers = {
                loader: stack.enter_context(started_worker(loader, model, "cpu"))
                for loader in loaders
            }
            for worker in workers.values():
                stack.enter_context(throttle(worker.pid, rate))
            for number in range(rounds):
                for loader, worker in workers.items():
                    bound = (medium, model.size_bytes / rate)
                    drop_cached(model)
                    measured = worker.load(model, cold=True)
                    yield _measured_row(loader, model, bound, number, "cpu", measured)
