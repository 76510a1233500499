"""A process that measures one loader.

    python -m experiments.benchmarks.loading.worker NAME POOL_BYTES DEVICE

It reads a line of JSON per load and prints one with the result. Imports and the pool are ready
before the first load. A load is timed until every page of every tensor was touched.
"""

import gc
import json
import resource
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from experiments.benchmarks.loading.breakdown import POOL_STEPS, PoolSteps
from experiments.benchmarks.loading.caching import cached_share
from experiments.benchmarks.loading.loaders import NamedLoader, Tensors, files_read
from experiments.benchmarks.loading.models import PreparedModel
from sllmreal.loader import ChunkPool
from sllmreal.loader.device import registered

_PAGE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class MeasuredLoad:
    """A measured load. Fields as in LoadingRow; `peak_rss_bytes` excludes earlier memory."""

    seconds: float
    returned_s: float
    peak_rss_bytes: int
    minor_faults: int
    major_faults: int
    cached_share: float
    cpu_s: float


def main(argv: list[str]) -> int:
    """Measure loads until stdin ends."""
    name, pool_bytes, device = argv[0], int(argv[1]), argv[2]
    with ExitStack() as stack:
        pool = stack.enter_context(ChunkPool(pool_bytes)) if pool_bytes else None
        if pool is not None and device != "cpu":
            stack.enter_context(registered(pool))
        loader = NamedLoader(name, pool, device)
        _answer({"ready": True, "huge_pages": pool is not None and pool.huge_pages})
        for line in sys.stdin:
            command = json.loads(line)
            model = command["model"]
            for key in ("native", "safetensors", "pickled", "directory"):
                model[key] = Path(model[key])
            cold = bool(command["cold"])
            if cold:
                loader.forget()
            _answer(asdict(_measured(loader, pool, PreparedModel(**model), device, cold=cold)))
    return 0


def _measured(
    loader: NamedLoader, pool: ChunkPool | None, model: PreparedModel, device: str, *, cold: bool
) -> MeasuredLoad:
    name = loader.name
    gc.collect()
    share = _resident_share(name, pool, model, cold=cold)
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = resource.getrusage(resource.RUSAGE_SELF)
    rss_before = _rss_bytes("VmRSS")
    began_s = time.perf_counter()
    if name in POOL_STEPS:
        assert pool is not None
        steps = PoolSteps(pool)
        tensors = steps.pool(model) if name == POOL_STEPS[0] else steps.pipeline(model)
    else:
        tensors = loader.load(model)
    returned_s = time.perf_counter() - began_s
    _touch(tensors, device)
    seconds = time.perf_counter() - began_s
    after = resource.getrusage(resource.RUSAGE_SELF)
    peak = _rss_bytes("VmHWM") - rss_before
    del tensors
    gc.collect()
    loader.release()
    return MeasuredLoad(
        seconds=seconds,
        returned_s=returned_s,
        peak_rss_bytes=peak,
        minor_faults=after.ru_minflt - before.ru_minflt,
        major_faults=after.ru_majflt - before.ru_majflt,
        cached_share=share,
        cpu_s=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
    )


def _resident_share(
    name: str, pool: ChunkPool | None, model: PreparedModel, *, cold: bool
) -> float:
    """Return the share of the bytes in the pool, for hot loads with one, else in the page cache."""
    files = files_read(name, model)
    if cold or pool is None:
        return cached_share(files)
    resident_bytes = sum(pool.status().resident_bytes.values())
    return resident_bytes / sum(file.stat().st_size for file in files)


def _touch(tensors: Tensors, device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()
        return
    for tensor in tensors:
        if tensor.numel():
            tensor.reshape(-1).view(torch.uint8)[::_PAGE_BYTES].sum()


def _rss_bytes(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) << 10
    raise LookupError(key)


def _answer(answer: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
