"""What the hardware can do, in the same rounds: `fio`'s best direct read, a memory copy."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import torch

# The configurations that were best on NVMe, virtual and array disks; the best of them is the limit.
_FIO = (
    ("--ioengine=psync", "--bs=4M", "--numjobs=2"),
    ("--ioengine=psync", "--bs=16M", "--numjobs=4"),
    ("--ioengine=io_uring", "--bs=4M", "--iodepth=8", "--numjobs=1"),
    ("--ioengine=libaio", "--bs=1M", "--iodepth=16", "--numjobs=4"),
)


def fio_seconds(file: Path) -> float | None:
    """The time of the fastest direct read of `file` on huge pages; None without fio."""
    if shutil.which("fio") is None:
        return None
    size_bytes = file.stat().st_size
    return min(_fio(file, size_bytes, options) for options in _FIO)


def _fio(file: Path, size_bytes: int, options: tuple[str, ...]) -> float:
    num_jobs = int(options[-1].partition("=")[2])
    share = size_bytes // num_jobs // (16 << 20) * (16 << 20)
    command = ["fio", "--name=limit", f"--filename={file}", "--rw=read", "--direct=1", *options]
    command += [
        f"--size={share}",
        f"--offset_increment={share}",
    ]
    command += ["--group_reporting", "--output-format=json", "--invalidate=0", "--readonly"]
    # Buffers on huge pages, by the C library: fio's own option for them came later than most fios.
    environment = {**os.environ, "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    result = subprocess.run(  # noqa: S603
        command, capture_output=True, check=True, text=True, env=environment
    )
    read = json.loads(result.stdout)["jobs"][0]["read"]
    return size_bytes / float(read["bw_bytes"])


def copy_seconds(size_bytes: int) -> float:
    """The time to copy that many bytes within memory that is mapped already."""
    part = min(size_bytes, 1 << 30)
    source = torch.ones(part, dtype=torch.uint8)
    target = torch.zeros(part, dtype=torch.uint8)
    began_s = time.perf_counter()
    target.copy_(source)
    return (time.perf_counter() - began_s) * size_bytes / part


def pinned_copy_seconds(size_bytes: int, device: str) -> float:
    """The time to copy that many pinned bytes to a CUDA device, in pieces of 1 GiB."""
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
