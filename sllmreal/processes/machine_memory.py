"""The memory of this machine, and the check that the sizes of its workers fit it."""

from contextlib import suppress
from pathlib import Path

from sllmcore.errors import UsageError

_MEMINFO = Path("/proc/meminfo")
_CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def memory_bytes() -> int:
    """Return the machine's memory, or the limit of this process's cgroup if that is less."""
    (line,) = (one for one in _MEMINFO.read_text().splitlines() if one.startswith("MemTotal:"))
    found = int(line.split()[1]) * 1024
    for file in _CGROUP_LIMITS:
        with suppress(OSError, ValueError):  # "max", or another version of cgroups
            found = min(found, int(file.read_text()))
    return found


def check_memory(num_workers: int, dram_gb: float, gpus: int, gpu_memory_gb: float) -> None:
    """Check that the pools of this machine's workers fit its memory.

    Raises:
        UsageError: They do not.
    """
    wanted_gb = num_workers * (dram_gb + gpus * gpu_memory_gb)
    limit_gb = memory_bytes() / 1e9
    if wanted_gb > limit_gb:
        workers = "one worker" if num_workers == 1 else f"{num_workers} workers, each"
        raise UsageError(
            f"{workers} with --dram-gb {dram_gb:g} and --gpu-memory-gb {gpu_memory_gb:g} for "
            f"{gpus} GPUs or CPU slots: {wanted_gb:.1f} GB are allocated at the start, this "
            f"machine has {limit_gb:.1f} GB"
        )
