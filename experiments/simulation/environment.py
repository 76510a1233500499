"""env.json: machine, versions and times of a run, which may differ between equal runs."""

import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "serverless-llm-toolkit",
    "hydra-core",
    "msgspec",
    "numpy",
    "omegaconf",
    "pyarrow",
    "simpy",
    "torch",
    "transformers",
    "zstandard",
)
_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Stopwatch:
    """A stopwatch that starts when it is made."""

    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    started_s: float = field(default_factory=time.perf_counter)

    def wall_s(self) -> float:
        """Return the seconds since the start."""
        return time.perf_counter() - self.started_s


def command_line() -> tuple[str, ...]:
    """Return the command line of this process."""
    return (Path(sys.executable).name, *sys.orig_argv[1:])


def environment(stopwatch: Stopwatch, command: Sequence[str] = ()) -> dict[str, Any]:
    """Return the content of env.json.

    Args:
        command: Command line of the run; default: that of this process.
    """
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "num_cpus": os.cpu_count(),
        "load_average": os.getloadavg()[
            0
        ],  # of the last minute; above num_cpus, the machine was overloaded
        "packages": {name: _version(name) for name in PACKAGES},
        "git": _git(),
        "command": list(command or command_line()),
        "directory": str(Path.cwd()),
        "started_at": stopwatch.started_at.isoformat(timespec="seconds"),
        "wall_s": stopwatch.wall_s(),
        "process_cpu_s": usage.ru_utime + usage.ru_stime,
        "process_peak_rss_bytes": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
    }


def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git() -> dict[str, Any] | None:
    """Return the commit of this checkout, and whether it is dirty; None outside of one."""
    if not (_ROOT / ".git").exists():
        return None
    status = ["git", "-C", str(_ROOT), "status", "--porcelain=v2", "--branch", "-uno"]
    try:
        answer = subprocess.run(  # noqa: S603 - a fixed command
            status, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    lines = answer.stdout.splitlines()
    commits = [line.split()[2] for line in lines if line.startswith("# branch.oid ")]
    dirty = any(not line.startswith("#") for line in lines)
    return {"commit": commits[0] if commits else None, "dirty": dirty}
