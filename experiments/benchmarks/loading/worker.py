"""A process that measures one loader.

    python -m experiments.benchmarks.loading.worker NAME POOL_BYTES DEVICE

It reads a line of JSON per load and answers with one. Imports and the pool are ready before the
first; every page of every tensor is touched before the clock stops.
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
from experiments.benchmarks.loading.loaders import Loaders, Tensors, files_read
from experiments.benchmarks.loading.models import PreparedModel
from sllmreal.loader import ChunkPool
from sllmreal.loader.device import registered

_PAGE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class MeasuredLoad:
    """One load. `peak_rss_bytes` is above what the process held before; the rest as in a Row."""

    seconds: float
    returned_s: float
    peak_rss_bytes: int
    minor_faults: int
    major_faults: int
    cached_share: float
    cpu_s: float


def main(argv: list[str]) -> int:
    name, pool_bytes, device = argv[0], int(argv[1]), argv[2]
    with ExitStack() as stack:
        pool = stack.enter_context(ChunkPool(pool_bytes)) if pool_bytes else None
        if pool is not None and device != "cpu":
            stack.enter_context(registered(pool))
        loaders = Loaders(name, pool, device)
        _say({"ready": True, "huge_pages": pool is not None and pool.huge_pages})
        for line in sys.stdin:
            command = json.loads(line)
            model = command["model"]
            for key in ("native", "safetensors", "pickled", "directory"):
                model[key] = Path(model[key])
            cold = bool(command["cold"])
            if cold:
                loaders.forget()
            _say(asdict(_measured(loaders, pool, PreparedModel(**model), device, cold=cold)))
    return 0


def _measured(
    loaders: Loaders, pool: ChunkPool | None, model: PreparedModel, device: str, *, cold: bool
) -> MeasuredLoad:
    name = loaders.name
    gc.collect()
    share = _resident_share(name, pool, model, cold=cold)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = resource.getrusage(resource.RUSAGE_SELF)
    rss_before = _rss_bytes("VmRSS")
    began_s = time.perf_counter()
    if name in POOL_STEPS:
        assert pool is not None
        steps = PoolSteps(pool)
        tensors = steps.pool(model) if name == POOL_STEPS[0] else steps.pipeline(model)
    else:
        tensors = loaders.load(model)
    returned_s = time.perf_counter() - began_s
    _touch(tensors, device)
    seconds = time.perf_counter() - began_s
    after = resource.getrusage(resource.RUSAGE_SELF)
    peak = _rss_bytes("VmHWM") - rss_before
    del tensors
    gc.collect()
    loaders.release()
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
    """What a load finds: in the pool, if it is hot and there is one; else in the page cache."""
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


def _say(answer: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
