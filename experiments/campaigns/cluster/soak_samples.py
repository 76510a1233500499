"""What the processes of a cluster take, read from /proc and from the store, once in a while.

A *series* is one number over time: of one kind of process, the mean over its processes (the engines
come and go), or of the whole cluster.
"""

import os
import statistics
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from experiments.campaigns.cluster.kills import MODULES, World, processes
from sllmreal.control.messages import GetStatus
from sllmreal.control.operator import ask

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_SHARED = "/memfd:"


@dataclass(frozen=True, slots=True)
class Taken:
    """Of one process."""

    rss_bytes: int
    num_files: int
    num_threads: int
    shared: dict[int, int]  # bytes of shared memory segments, by inode


@dataclass(slots=True)
class Series:
    """Numbers by the second at which they were read."""

    at_s: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def add(self, at_s: float, value: float) -> None:
        self.at_s.append(at_s)
        self.values.append(value)


def taken(pid: int) -> Taken | None:
    """What a process takes; None when it has ended."""
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
            if str(file.readlink()).startswith(_SHARED):
                status = file.stat()
                shared[status.st_ino] = status.st_blocks * 512
        except OSError:
            continue  # closed meanwhile
    return Taken(rss_bytes, len(files), num_threads, shared)


async def sample(on: World) -> dict[str, float]:
    """The numbers of this moment by their series. Some may be missing."""
    found: dict[str, float] = {}
    shared: dict[int, int] = {}
    for kind, pids in _pids(on).items():
        alive = [one for one in map(taken, pids) if one is not None]
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
    found["store bytes"] = sum(_sizes(on.home.directory, "store.db*"))
    found["home entries"] = sum(1 for _ in _sizes(on.home.directory))
    found["open requests"] = len(on.router.generations)
    status = await ask(on.home, GetStatus(), wait_s=30)
    assert status is not None, "Inspect is answered by a Status"
    found["store keys"] = status.num_log_keys
    found["instances"] = len(status.instances)
    return found


def _pids(on: World) -> dict[str, list[int]]:
    """Processes by kind. Workers are apart, for they do not do the same."""
    kinds = {kind: processes(kind, on.home) for kind in MODULES if kind != "worker"}
    kinds["gateway"] = [os.getpid()]
    for pid in processes("worker", on.home):
        with suppress(OSError, ValueError):
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
            kinds[f"worker {arguments[arguments.index('--server') + 1]}"] = [pid]
    return kinds


def _sizes(directory: Path, pattern: str = "*") -> Iterator[int]:
    for file in directory.rglob(pattern):
        try:
            if file.is_file():
                yield file.stat().st_blocks * 512
        except OSError:
            continue
