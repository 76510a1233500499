"""Remote loads from real servers at the far end of an emulated link.

The limit is a bare receiver over the same link (`receive`), the mean of just before and just after
a load. The load puts the same bytes into a pool, verified, without and with a copy on the SSD; it
is timed until the tensors are complete, and until the copy is.
"""

import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from experiments.benchmarks.loading.link import emulated_link, why_not
from experiments.benchmarks.loading.models import PreparedModel
from experiments.benchmarks.loading.receive import receive_and_forget
from experiments.benchmarks.loading.row import DISK, LoadingMeasure, LoadingRow, limit_row
from experiments.benchmarks.loading.services import KINDS, StorageService
from experiments.benchmarks.loading.stolen import StolenTime
from sllmreal.loader import ChunkPool, LoadOptions
from sllmreal.loader.plan import DEFAULT_CHUNK_BYTES
from sllmreal.loader.remote import loading_remote

LINKS_BYTES_PER_S = {"1 Gbit/s": 125e6, "10 Gbit/s": 1250e6, "unlimited": None}
_CONNECTIONS = 8


def over_links(model: PreparedModel, rounds: int, medium: str = DISK) -> Iterator[LoadingRow]:
    """Yield rows of loads from each kind of service over each link, if available here."""
    with ChunkPool(model.size_bytes + 4 * DEFAULT_CHUNK_BYTES) as pool:
        for kind in KINDS:
            reason = kind.why_not() or why_not()
            if reason is not None:
                sys.stderr.write(f"no remote storage{kind.suffix}: {reason}\n")
                continue
            for name, rate in LINKS_BYTES_PER_S.items():
                with emulated_link(rate) as link, kind.serving(model.native, link) as service:
                    for number in range(rounds):
                        where = f"{name}{kind.suffix}"
                        measure = LoadingMeasure(
                            model=model.name,
                            size_bytes=model.size_bytes,
                            cache=where,
                            round=number,
                            medium=medium,
                        )
                        yield from _round(
                            service=service, model=model, pool=pool, measure=measure, rate=rate
                        )


def _round(
    service: StorageService,
    model: PreparedModel,
    pool: ChunkPool,
    measure: LoadingMeasure,
    rate: float | None,
) -> Iterator[LoadingRow]:
    file = model.native / "partition-00000.bin"
    size_bytes = file.stat().st_size

    def received() -> LoadingRow:
        clock = _Clock()
        receive_and_forget(service.url_of(file.name), size_bytes, _CONNECTIONS)
        bare = clock.row("bare receive", measure)
        return replace(bare, ratio_to_limit=size_bytes / rate / bare.seconds if rate else 1.0)

    before = received()
    yield before
    options = LoadOptions(num_readers=_CONNECTIONS)
    for name, copied in (("ours remote, no copy", False), ("ours remote", True)):
        loads = []
        with tempfile.TemporaryDirectory(dir=model.native.parent) as directory:
            cache = Path(directory) if copied else None
            clock = _Clock()
            with (
                service.storage() as storage,
                loading_remote(storage, cache, pool=pool, options=options),
            ):
                loads.append(clock.row(name, measure))
            if copied:
                loads.append(clock.row(f"{name}, copy whole", measure))
        for identity in pool.status().resident_bytes:
            pool.evict(identity)
        after = received()
        for load in loads:
            yield load.within((before.seconds + after.seconds) / 2)
        yield after
        before = after


class _Clock:
    """A stopwatch of real time and of this process's CPU time, kernel included."""

    def __init__(self) -> None:
        self._stolen = StolenTime()
        self._began_cpu_s = _cpu_s()
        self._began_s = time.perf_counter()

    def row(self, name: str, measure: LoadingMeasure) -> LoadingRow:
        """Return a row of the time until now."""
        seconds, cpu_s = time.perf_counter() - self._began_s, _cpu_s() - self._began_cpu_s
        row = limit_row(name, measure, seconds, cpu_s)
        return replace(row, stolen_share=self._stolen.share)


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
