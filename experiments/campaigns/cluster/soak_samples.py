"""Samples of the resources that a cluster uses, read from /proc and from the leader's status.

A *series* is one number over time. For a kind of process it is the mean over its processes (engines
start and end during a soak); other series are of the whole cluster.
"""

import os
import statistics
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from experiments.campaigns.cluster.testbed import (
    MODULE_OF_KIND,
    ClusterTestbed,
    process_ids,
)
from sllmreal.control.messages import GetStatus
from sllmreal.control.operator import ask

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_SHARED_PREFIX = "/memfd:"


@dataclass(frozen=True, slots=True)
class ProcessUsage:
    """Resources that one process uses.

    Attributes:
        num_files: Open file descriptors.
        shared: Bytes of each shared memory segment that the process has open, by inode.
    """

    rss_bytes: int
    num_files: int
    num_threads: int
    shared: dict[int, int]


@dataclass(slots=True)
class SampleSeries:
    """Values, and the seconds since the start at which each was read."""

    at_s: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def add(self, at_s: float, value: float) -> None:
        """Append one value."""
        self.at_s.append(at_s)
        self.values.append(value)


def usage(pid: int) -> ProcessUsage | None:
    """Return the resources that a process uses; None if it has ended."""
    entry = Path(f"/proc/{pid}")
    try:
        rss_bytes = int((entry / "statm").read_text().split()[1]) * _PAGE_BYTES
        num_threads = len(list((entry / "task").iterdir()))
        files = list((entry / "fd").iterdir())
    except OSError:
        return None
    shared = {}
    for file in files:
        try:
            if str(file.readlink()).startswith(_SHARED_PREFIX):
                status = file.stat()
                shared[status.st_ino] = status.st_blocks * 512
        except OSError:
            continue  # closed after the directory was listed
    return ProcessUsage(rss_bytes, len(files), num_threads, shared)


async def sample(testbed: ClusterTestbed) -> dict[str, float]:
    """Return the current value of each series. Series of a kind without processes are missing."""
    found: dict[str, float] = {}
    shared: dict[int, int] = {}
    for kind, pids in _pids_by_kind(testbed).items():
        alive = [one for one in map(usage, pids) if one is not None]
        found[f"{kind} processes"] = len(alive)
        for one in alive:
            shared |= one.shared
        if alive:
            found[f"{kind} rss_bytes"] = statistics.fmean(one.rss_bytes for one in alive)
            found[f"{kind} files"] = statistics.fmean(one.num_files for one in alive)
            found[f"{kind} threads"] = statistics.fmean(one.num_threads for one in alive)
    found["shared segments"] = len(shared)
    found["shared bytes"] = sum(shared.values())
    found["/dev/shm bytes"] = sum(_sizes(Path("/dev/shm")))
    found["store bytes"] = sum(_sizes(testbed.home.directory, "store.db*"))
    found["home entries"] = sum(1 for _ in _sizes(testbed.home.directory))
    found["open requests"] = len(testbed.router.generations)
    status = await ask(testbed.home, GetStatus(), wait_s=30)
    assert status is not None, "GetStatus is answered by a ClusterStatus"
    found["store keys"] = status.num_log_keys
    found["instances"] = len(status.instances)
    return found


def _pids_by_kind(testbed: ClusterTestbed) -> dict[str, list[int]]:
    """Return process ids by kind. Each worker is its own kind, because their options differ."""
    home = testbed.home
    kinds = {kind: process_ids(kind, home) for kind in MODULE_OF_KIND if kind != "worker"}
    kinds["gateway"] = [os.getpid()]
    for pid in process_ids("worker", home):
        with suppress(OSError, ValueError):
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
            kinds[f"worker {arguments[arguments.index('--server') + 1]}"] = [pid]
    return kinds


def _sizes(directory: Path, pattern: str = "*") -> Iterator[int]:
    """Yield the disk bytes of each file under `directory`."""
    for file in directory.rglob(pattern):
        try:
            if file.is_file():
                yield file.stat().st_blocks * 512
        except OSError:
            continue
