"""The limits of the hardware, measured in the same rounds: direct reads by `fio`, memory copies."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from statistics import median

import torch

from experiments.benchmarks.loading.caching import drop
from sllmreal.loader.memory import populate, reserve_image

_NUM_TRIES = 3
# The best configurations on NVMe, virtual and array disks; the fastest one is the limit.
_FIO = (
    ("--ioengine=psync", "--bs=4M", "--numjobs=2"),
    ("--ioengine=psync", "--bs=16M", "--numjobs=4"),
    ("--ioengine=io_uring", "--bs=4M", "--iodepth=8", "--numjobs=1"),
    ("--ioengine=libaio", "--bs=1M", "--iodepth=16", "--numjobs=4"),
    (
        "--ioengine=libaio",
        "--bs=16M",
        "--iodepth=8",
        "--numjobs=1",
    ),  # one stream, as this loader reads
)


class DiskLimit:
    """A direct read of a file onto huge pages by fio, in the configuration of the best median."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._options = None
        if shutil.which("fio") is not None:
            tries = [[self._read_s(options) for options in _FIO] for _ in range(_NUM_TRIES)]
            medians = [median(times) for times in zip(*tries, strict=True)]
            self._options = _FIO[medians.index(min(medians))]

    def seconds(self) -> float | None:
        """Measure a read; None without fio."""
        return None if self._options is None else self._read_s(self._options)

    def _read_s(self, options: tuple[str, ...]) -> float:
        drop([self._file])
        return _fio_s(self._file, self._file.stat().st_size, options)


def _fio_s(file: Path, size_bytes: int, options: tuple[str, ...]) -> float:
    num_jobs = int(options[-1].partition("=")[2])
    share = size_bytes // num_jobs // (16 << 20) * (16 << 20)
    command = ["fio", "--name=limit", f"--filename={file}", "--rw=read", "--direct=1", *options]
    command += [
        f"--size={share}",
        f"--offset_increment={share}",
    ]
    command += ["--group_reporting", "--output-format=json", "--invalidate=0", "--readonly"]
    # Buffers on huge pages, by the C library: most installed versions of fio lack an option.
    environment = {**os.environ, "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    result = subprocess.run(  # noqa: S603
        command, capture_output=True, check=True, text=True, env=environment
    )
    read = json.loads(result.stdout)["jobs"][0]["read"]
    return size_bytes / float(read["bw_bytes"])


def populate_seconds(size_bytes: int) -> float:
    """Measure the seconds that one thread needs to allocate and fault in fresh memory."""
    image = reserve_image(size_bytes)
    began_s = time.perf_counter()
    populate(image.address, size_bytes)
    return time.perf_counter() - began_s


def copy_seconds(size_bytes: int) -> float:
    """Measure the seconds to copy bytes within mapped memory."""
    part = min(size_bytes, 1 << 30)
    source = torch.ones(part, dtype=torch.uint8)
    target = torch.zeros(part, dtype=torch.uint8)
    began_s = time.perf_counter()
    target.copy_(source)
    return (time.perf_counter() - began_s) * size_bytes / part


def pinned_copy_seconds(size_bytes: int, device: str) -> float:
    """Measure the seconds to copy pinned bytes to a CUDA device, in pieces of 1 GiB."""
    part = min(size_bytes, 1 << 30)
    source = torch.ones(part, dtype=torch.uint8, pin_memory=True)
    target = torch.empty(part, dtype=torch.uint8, device=device)
    target.copy_(source, non_blocking=True)
    torch.cuda.synchronize()
    began_s = time.perf_counter()
    for _ in range(4):
        target.copy_(source, non_blocking=True)
    torch.cuda.synchronize()
    return (time.perf_counter() - began_s) / 4 * size_bytes / part
