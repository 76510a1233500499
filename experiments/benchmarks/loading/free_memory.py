"""Free memory under control: a load finds pages that the machine has, not pages it must get first.

A virtual machine may report what is free to its host, which takes it back within seconds. Who then
allocates pays for the host to find memory: 1 GB/s, where memory just freed comes at 5 GB/s. Who
pays depends on what was freed before, so every load finds memory just freed.
"""

from pathlib import Path

from experiments.benchmarks.loading.limits import populate_seconds

_COPIES = 2  # a loader may fill the page cache, and memory of its own
_MEMORY = Path("/proc/meminfo")


def ready_memory(size_bytes: int) -> None:
    """Take what two copies of a checkpoint need, or half of what there is, and give it back."""
    populate_seconds(min(_COPIES * size_bytes, _available_bytes() // 2))


def _available_bytes() -> int:
    for line in _MEMORY.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    raise LookupError("MemAvailable")
