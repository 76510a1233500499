"""Emulation of slower media: the kernel limits the read rate of a process."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup/blkio")
_LIMIT = "blkio.throttle.read_bps_device"


def can_throttle() -> bool:
    """Return True if the blkio controller exists and may be used."""
    return os.access(_CGROUP / _LIMIT, os.W_OK)


@contextmanager
def throttled(directory: Path, pid: int, bytes_per_s: float) -> Iterator[None]:
    """Limit the rate at which process `pid` reads the disk under `directory`, until the end."""
    group = _CGROUP / f"loading-{pid}"
    group.mkdir()
    try:
        (group / _LIMIT).write_text(f"{_disk_of(directory)} {int(bytes_per_s)}")
        (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        for member in (group / "cgroup.procs").read_text().split():
            (_CGROUP / "cgroup.procs").write_text(member)
        group.rmdir()


def _disk_of(directory: Path) -> str:
    """Return the major and minor number of the whole disk, not of a partition."""
    device = directory.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    entry = Path("/sys/dev/block") / number
    if (entry / "partition").exists():
        return (entry.resolve().parent / "dev").read_text().strip()
    return number
