"""Interleaved rounds: every loader once per round, in a process of its own, cold or hot.

ratio_to_limit = limit_s / seconds. Shared disks drift from minute to minute, so the limit of a cold
load is the mean of a read just before it and one just after it; that of a hot load is of its round.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from experiments.benchmarks.loading.breakdown import ALL_STEPS
from experiments.benchmarks.loading.caching import drop, warm
from experiments.benchmarks.loading.crew import Crew
from experiments.benchmarks.loading.free_memory import ready_memory
from experiments.benchmarks.loading.limits import (
    DiskLimit,
    copy_seconds,
    pinned_copy_seconds,
    populate_seconds,
)
from experiments.benchmarks.loading.loaders import files_read, prepare_tensorizer
from experiments.benchmarks.loading.models import PreparedModel
from experiments.benchmarks.loading.row import DISK, LoadingRow, Measure, limit_row
from experiments.benchmarks.loading.stolen import Stolen

ON_MEDIA = ("ours pool", "ours", "safetensors", "torch.load")


class Throttle(Protocol):
    """Limits how fast a process may read, until the end of the context."""

    def __call__(self, pid: int, bytes_per_s: float) -> AbstractContextManager[object]: ...


def drop_cached(model: PreparedModel) -> None:
    """Forget all files of a model from the page cache."""
    drop(file for file in model.directory.parent.rglob("*") if file.is_file())


def compare(
    model: PreparedModel, loaders: Sequence[str], rounds: int, device: str, medium: str = DISK
) -> Iterator[LoadingRow]:
    """Rows of these loaders on one model, cold, and of the limits."""
    if "tensorizer" in loaders:
        prepare_tensorizer(model)
    with Crew(loaders, model, device) as crew:
        disk = DiskLimit(model.native / "partition-00000.bin")
        for number in range(rounds):
            cold = Measure(model.name, model.size_bytes, "cold", number, medium)
            for memory in ("new memory", "memory just freed"):
                seconds = populate_seconds(model.size_bytes)
                yield limit_row(memory, replace(cold, cache="hot"), seconds)  # no disk in it
            loaders = _rotated(crew.loaders, number)
            yield from _cold_rows(crew, loaders, model, disk, (cold, device))


def compare_hot(
    model: PreparedModel, loaders: Sequence[str], rounds: int, device: str, medium: str = DISK
) -> Iterator[LoadingRow]:
    """The same for files that are cached; for pools, for what the pool holds."""
    if "tensorizer" in loaders:
        prepare_tensorizer(model)
    with Crew(loaders, model, device) as crew:
        for loader in crew.loaders:
            crew.load(loader, cold=False)  # into the pool, of those that have one
        for number in range(rounds):
            hot = Measure(model.name, model.size_bytes, "hot", number, medium)
            copy_s = _copy_limit(model, device)
            yield limit_row("memory copy", hot, copy_s)
            for loader in _rotated(crew.loaders, number):
                for row in measured_row(crew, loader, model, hot, device):
                    yield row.within(copy_s)


def _cold_rows(
    crew: Crew,
    loaders: Sequence[str],
    model: PreparedModel,
    disk: DiskLimit,
    measure: tuple[Measure, str],
) -> Iterator[LoadingRow]:
    """A row of each loader, and of the disk's limit before and after it."""
    cold, device = measure
    before_s = disk.seconds()
    if before_s is not None:
        yield limit_row("fio", cold, before_s)
    for loader in loaders:
        rows = list(measured_row(crew, loader, model, cold, device))
        after_s = disk.seconds()
        if before_s is None or after_s is None:
            yield from rows
            continue
        for row in rows:
            yield row.within((before_s + after_s) / 2)
        yield limit_row("fio", cold, after_s)
        before_s = after_s


def _rotated(loaders: Sequence[str], number: int) -> list[str]:
    """Another loader begins each round: what it is that its predecessor leaves behind, in memory
    or in the disk, it leaves to others in turn."""
    first = number % max(1, len(loaders))
    return [*loaders[first:], *loaders[:first]]


def breakdown(model: PreparedModel, rounds: int, medium: str = DISK) -> Iterator[LoadingRow]:
    """Rows of the steps from a naive loader to ours, cold, and of the limit."""
    with Crew(ALL_STEPS, model, "cpu") as crew:
        disk = DiskLimit(model.native / "partition-00000.bin")
        for number in range(rounds):
            cold = Measure(model.name, model.size_bytes, "cold", number, medium)
            steps = _rotated(crew.loaders, number)
            yield from _cold_rows(crew, steps, model, disk, (cold, "cpu"))


def on_media(
    model: PreparedModel,
    rates_bytes_per_s: dict[str, float],
    throttle: Throttle,
    rounds: int,
    medium: str = DISK,
) -> Iterator[LoadingRow]:
    """Rows of a few loaders on emulated media: `throttle` limits how fast a worker reads."""
    for emulated, rate in rates_bytes_per_s.items():
        with Crew(ON_MEDIA, model, "cpu", partial(throttle, bytes_per_s=rate)) as crew:
            for number in range(rounds):
                measure = Measure(model.name, model.size_bytes, emulated, number, medium)
                for loader in crew.loaders:
                    for row in measured_row(crew, loader, model, measure, "cpu"):
                        yield row.within(model.size_bytes / rate)


def _copy_limit(model: PreparedModel, device: str) -> float:
    if device == "cpu":
        return copy_seconds(model.size_bytes)
    return pinned_copy_seconds(model.size_bytes, device)


def measured_row(
    crew: Crew, loader: str, model: PreparedModel, measure: Measure, device: str
) -> Iterator[LoadingRow]:
    """The row of one load; none where the loader died of it."""
    hot = measure.cache == "hot"
    ready_memory(model.size_bytes)
    if hot:
        # Other loaders' files and memory may have pushed this one's out of the cache.
        warm(files_read(loader, model))
    else:
        drop_cached(model)
    stolen = Stolen()
    measured = crew.load(loader, cold=not hot)
    if measured is not None:
        yield replace(_as_row(loader, measure, device, measured), stolen_share=stolen.share)


def _as_row(loader: str, measure: Measure, device: str, measured: dict[str, Any]) -> LoadingRow:
    seconds = float(measured["seconds"])
    return LoadingRow(
        loader=loader,
        model=measure.model,
        size_bytes=measure.size_bytes,
        cache=measure.cache,
        device=device,
        round=measure.round,
        seconds=seconds,
        bytes_per_s=measure.size_bytes / seconds,
        returned_s=measured["returned_s"],
        peak_rss_bytes=measured["peak_rss_bytes"],
        minor_faults=measured["minor_faults"],
        major_faults=measured["major_faults"],
        cached_share=measured["cached_share"],
        cpu_s=measured["cpu_s"],
        medium=measure.medium,
    )
