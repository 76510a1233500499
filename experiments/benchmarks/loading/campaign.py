"""Interleaved rounds of loads: each loader once per round, in a process of its own, cold or hot.

ratio_to_limit = limit_s / seconds.  Shared disks drift from minute to minute. The limit of a cold
load is therefore the mean of two reads, one just before and one just after it. The limit of a hot
load is measured once per round.

Every load finds free memory that was used just before. A virtual machine may return free memory to
its host within seconds; allocating that memory again is slow (1 GB/s instead of 5 GB/s).
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from experiments.benchmarks.loading.breakdown import ALL_STEPS
from experiments.benchmarks.loading.caching import drop, warm
from experiments.benchmarks.loading.crew import Crew
from experiments.benchmarks.loading.limits import (
    DiskLimit,
    copy_seconds,
    pinned_copy_seconds,
    populate_seconds,
)
from experiments.benchmarks.loading.loaders import files_read, prepare_tensorizer
from experiments.benchmarks.loading.models import PreparedModel
from experiments.benchmarks.loading.row import DISK, LoadingMeasure, LoadingRow, limit_row
from experiments.benchmarks.loading.stolen import StolenTime

_COPIES = 2  # a loader may fill the page cache, and memory of its own
_MEMORY = Path("/proc/meminfo")
ON_MEDIA = ("ours pool", "ours", "safetensors", "torch.load")


class Throttle(Protocol):
    """A context manager that limits the read rate of a process."""

    def __call__(self, pid: int, bytes_per_s: float) -> AbstractContextManager[object]: ...


def drop_cached(model: PreparedModel) -> None:
    """Drop all files of a model from the page cache."""
    drop(file for file in model.directory.parent.rglob("*") if file.is_file())


def compare(
    model: PreparedModel, loaders: Sequence[str], rounds: int, device: str, medium: str = DISK
) -> Iterator[LoadingRow]:
    """Yield rows of these loaders on one model, cold, and of the limits."""
    if "tensorizer" in loaders:
        prepare_tensorizer(model)
    with Crew(loaders, model, device) as crew:
        disk = DiskLimit(model.native / "partition-00000.bin")
        for number in range(rounds):
            cold = LoadingMeasure(
                model=model.name,
                size_bytes=model.size_bytes,
                cache="cold",
                round=number,
                medium=medium,
            )
            for memory in ("new memory", "memory just freed"):
                seconds = populate_seconds(model.size_bytes)
                yield limit_row(memory, replace(cold, cache="hot"), seconds)  # no disk in it
            loaders = _rotated(crew.loaders, number)
            yield from _cold_rows(
                crew=crew, loaders=loaders, model=model, disk=disk, measure=(cold, device)
            )


def compare_hot(
    model: PreparedModel, loaders: Sequence[str], rounds: int, device: str, medium: str = DISK
) -> Iterator[LoadingRow]:
    """Yield rows of these loaders with the files cached or, for pools, the model resident."""
    if "tensorizer" in loaders:
        prepare_tensorizer(model)
    with Crew(loaders, model, device) as crew:
        for loader in crew.loaders:
            crew.load(loader, cold=False)  # into the pool, if the loader has one
        for number in range(rounds):
            hot = LoadingMeasure(
                model=model.name,
                size_bytes=model.size_bytes,
                cache="hot",
                round=number,
                medium=medium,
            )
            copy_s = _copy_limit(model, device)
            yield limit_row("memory copy", hot, copy_s)
            for loader in _rotated(crew.loaders, number):
                for row in measured_row(
                    crew=crew, loader=loader, model=model, measure=hot, device=device
                ):
                    yield row.within(copy_s)


def _cold_rows(
    crew: Crew,
    loaders: Sequence[str],
    model: PreparedModel,
    disk: DiskLimit,
    measure: tuple[LoadingMeasure, str],
) -> Iterator[LoadingRow]:
    """Yield a row of each loader, and of the disk's limit before and after it."""
    cold, device = measure
    before_s = disk.seconds()
    if before_s is not None:
        yield limit_row("fio", cold, before_s)
    for loader in loaders:
        rows = list(
            measured_row(crew=crew, loader=loader, model=model, measure=cold, device=device)
        )
        after_s = disk.seconds()
        if before_s is None or after_s is None:
            yield from rows
            continue
        for row in rows:
            yield row.within((before_s + after_s) / 2)
        yield limit_row("fio", cold, after_s)
        before_s = after_s


def _rotated(loaders: Sequence[str], number: int) -> list[str]:
    """Rotate the order of the loaders by round.

    Each loader then runs after each other one, and side effects on memory or disk average out.
    """
    first = number % max(1, len(loaders))
    return [*loaders[first:], *loaders[:first]]


def breakdown(model: PreparedModel, rounds: int, medium: str = DISK) -> Iterator[LoadingRow]:
    """Yield rows of the steps from a naive loader to this one, cold, and of the limit."""
    with Crew(ALL_STEPS, model, "cpu") as crew:
        disk = DiskLimit(model.native / "partition-00000.bin")
        for number in range(rounds):
            cold = LoadingMeasure(
                model=model.name,
                size_bytes=model.size_bytes,
                cache="cold",
                round=number,
                medium=medium,
            )
            steps = _rotated(crew.loaders, number)
            yield from _cold_rows(
                crew=crew, loaders=steps, model=model, disk=disk, measure=(cold, "cpu")
            )


def on_media(
    model: PreparedModel,
    rates_bytes_per_s: dict[str, float],
    throttle: Throttle,
    rounds: int,
    medium: str = DISK,
) -> Iterator[LoadingRow]:
    """Yield rows of a few loaders on emulated media; `throttle` limits a worker's read rate."""
    for emulated, rate in rates_bytes_per_s.items():
        with Crew(ON_MEDIA, model, "cpu", partial(throttle, bytes_per_s=rate)) as crew:
            for number in range(rounds):
                measure = LoadingMeasure(
                    model=model.name,
                    size_bytes=model.size_bytes,
                    cache=emulated,
                    round=number,
                    medium=medium,
                )
                for loader in crew.loaders:
                    for row in measured_row(
                        crew=crew, loader=loader, model=model, measure=measure, device="cpu"
                    ):
                        yield row.within(model.size_bytes / rate)


def _copy_limit(model: PreparedModel, device: str) -> float:
    if device == "cpu":
        return copy_seconds(model.size_bytes)
    return pinned_copy_seconds(model.size_bytes, device)


def measured_row(
    crew: Crew, loader: str, model: PreparedModel, measure: LoadingMeasure, device: str
) -> Iterator[LoadingRow]:
    """Yield the row of one load; none if the loader's process died."""
    hot = measure.cache == "hot"
    _touch_free_memory(model.size_bytes)
    if hot:
        # The memory of other loaders may have displaced this one's files from the cache.
        warm(files_read(loader, model))
    else:
        drop_cached(model)
    stolen = StolenTime()
    measured = crew.load(loader, cold=not hot)
    if measured is not None:
        yield replace(_as_row(loader, measure, device, measured), stolen_share=stolen.share)


def _touch_free_memory(size_bytes: int) -> None:
    """Allocate and free the memory of two copies of a checkpoint, or half of the memory."""
    populate_seconds(min(_COPIES * size_bytes, _available_bytes() // 2))


def _available_bytes() -> int:
    for line in _MEMORY.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    raise LookupError("MemAvailable")


def _as_row(
    loader: str, measure: LoadingMeasure, device: str, measured: dict[str, Any]
) -> LoadingRow:
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
