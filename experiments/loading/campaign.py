"""Interleaved rounds: every loader once per round, in a process of its own, cold then hot.

ratio_to_limit = limit_s / seconds,  the limit measured in the same round.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from experiments.loading.breakdown import ALL_STEPS
from experiments.loading.caching import drop, warm
from experiments.loading.crew import Crew
from experiments.loading.limits import copy_seconds, fio_seconds, pinned_copy_seconds
from experiments.loading.loaders import available, files_read, prepare_tensorizer
from experiments.loading.models import Prepared
from experiments.loading.row import DISK, Measure, Row, limit_row

ON_MEDIA = ("ours pool", "ours", "safetensors", "torch.load")


class Throttle(Protocol):
    """Limits how fast a process may read, until the end of the context."""

    def __call__(self, pid: int, bytes_per_s: float) -> AbstractContextManager[object]: ...


def drop_cached(model: Prepared) -> None:
    """Forget all files of a model from the page cache."""
    drop(file for file in model.directory.parent.rglob("*") if file.is_file())


def compare(model: Prepared, rounds: int, device: str, medium: str = DISK) -> Iterator[Row]:
    """Rows of every available loader on one model, cold then hot, and of the limits."""
    loaders = available(model.name)
    if "tensorizer" in loaders:
        prepare_tensorizer(model)
    with Crew(loaders, model, device) as crew:
        for number in range(rounds):
            cold = Measure(model.name, model.size_bytes, "cold", number, medium)
            hot = replace(cold, cache="hot")
            disk_s = _disk_limit(model)
            if disk_s is not None:
                yield limit_row("fio", cold, disk_s)
            copy_s = _copy_limit(model, device)
            yield limit_row("memory copy", hot, copy_s)
            for measure, limit_s in ((cold, disk_s), (hot, copy_s)):
                for loader in _rotated(crew.loaders, number):
                    yield from measured_row(crew, loader, model, measure, (device, limit_s))


def _rotated(loaders: Sequence[str], number: int) -> list[str]:
    """Another loader begins each round: the first that takes memory after files were dropped from
    the cache has the kernel gather huge pages for it, and those behind it find them."""
    first = number % max(1, len(loaders))
    return [*loaders[first:], *loaders[:first]]


def breakdown(model: Prepared, rounds: int, medium: str = DISK) -> Iterator[Row]:
    """Rows of the steps from a naive loader to ours, cold, and of the limit."""
    with Crew(ALL_STEPS, model, "cpu") as crew:
        for number in range(rounds):
            cold = Measure(model.name, model.size_bytes, "cold", number, medium)
            disk_s = _disk_limit(model)
            for step in crew.loaders:
                yield from measured_row(crew, step, model, cold, ("cpu", disk_s))


def on_media(
    model: Prepared,
    rates_bytes_per_s: dict[str, float],
    throttle: Throttle,
    rounds: int,
    medium: str = DISK,
) -> Iterator[Row]:
    """Rows of a few loaders on emulated media: `throttle` limits how fast a worker reads."""
    for emulated, rate in rates_bytes_per_s.items():
        with Crew(ON_MEDIA, model, "cpu", partial(throttle, bytes_per_s=rate)) as crew:
            for number in range(rounds):
                measure = Measure(model.name, model.size_bytes, emulated, number, medium)
                for loader in crew.loaders:
                    bound = ("cpu", model.size_bytes / rate)
                    yield from measured_row(crew, loader, model, measure, bound)


def _disk_limit(model: Prepared) -> float | None:
    drop_cached(model)
    return fio_seconds(model.native / "partition-00000.bin")


def _copy_limit(model: Prepared, device: str) -> float:
    if device == "cpu":
        return copy_seconds(model.size_bytes)
    return pinned_copy_seconds(model.size_bytes, device)


def measured_row(
    crew: Crew, loader: str, model: Prepared, measure: Measure, bound: tuple[str, float | None]
) -> Iterator[Row]:
    """The row of one load; none where the loader died of it. `bound`: device, limit in seconds."""
    hot = measure.cache == "hot"
    if hot:
        # Other loaders' files and memory may have pushed this one's out of the cache.
        warm(files_read(loader, model))
    else:
        drop_cached(model)
    measured = crew.load(loader, cold=not hot)
    if measured is not None:
        yield _as_row(loader, measure, bound, measured)


def _as_row(
    loader: str, measure: Measure, bound: tuple[str, float | None], measured: dict[str, Any]
) -> Row:
    device, limit_s = bound
    seconds = float(measured["seconds"])
    return Row(
        loader=loader,
        model=measure.model,
        size_bytes=measure.size_bytes,
        cache=measure.cache,
        device=device,
        round=measure.round,
        seconds=seconds,
        bytes_per_s=measure.size_bytes / seconds,
        ratio_to_limit=limit_s / seconds if limit_s else None,
        peak_rss_bytes=measured["peak_rss_bytes"],
        minor_faults=measured["minor_faults"],
        major_faults=measured["major_faults"],
        cached_share=measured["cached_share"],
        cpu_s=measured["cpu_s"],
        medium=measure.medium,
    )
