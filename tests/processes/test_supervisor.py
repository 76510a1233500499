"""Children are started again when they end, and end with their parent, even if it is killed.

Seeded bug: a child does not ask the kernel for a signal at its parent's end.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sllmcore.errors import ClusterError, SllmError, UsageError
from sllmreal.processes.supervisor import ChildCommand, kept_running

COMMAND = ChildCommand("sleeper", "sleeper", (), least_s=0.0)
PARENT = """
import asyncio
from sllmreal.processes.supervisor import kept_running
from tests.processes.test_supervisor import COMMAND

async def main():
    async with kept_running([COMMAND], print):
        await asyncio.sleep(600)

asyncio.run(main())
"""
PATIENCE_S = 60.0


@pytest.fixture(autouse=True)
def pid_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file to which the module `sleeper` appends a line with its pid at each start."""
    module = tmp_path / "sleeper.py"
    module.write_text(
        "import os, time\n"
        "with open(os.environ['PID_FILE'], 'a') as file: file.write(f'{os.getpid()}\\n')\n"
        "time.sleep(600)\n"
    )
    pid_file = tmp_path / "pids"
    pid_file.touch()
    monkeypatch.setenv("PID_FILE", str(pid_file))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(Path.cwd())]))
    return pid_file


def pids(pid_file: Path) -> list[int]:
    lines = pid_file.read_text().splitlines(keepends=True)
    return [int(line) for line in lines if line.endswith("\n")]


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_child_ends_with_a_parent_that_is_killed(pid_file: Path) -> None:
    until_s = time.monotonic() + PATIENCE_S
    with subprocess.Popen([sys.executable, "-c", PARENT]) as parent:
        try:
            while not pids(pid_file) and time.monotonic() < until_s:
                time.sleep(0.01)
            (child,) = pids(pid_file)
            assert runs(child)
        finally:
            parent.kill()
    while runs(child) and time.monotonic() < until_s:
        time.sleep(0.01)

    assert not runs(child)


def test_a_child_whose_parent_died_first_does_not_start(pid_file: Path) -> None:
    with subprocess.Popen(["true"]) as parent:
        pass

    command = [sys.executable, "-m", "sllmreal.processes.with_parent", str(parent.pid), "sleeper"]
    assert subprocess.run(command, check=False, timeout=PATIENCE_S).returncode == 1
    assert pids(pid_file) == []


@pytest.mark.asyncio
async def test_a_child_that_ends_is_started_again(pid_file: Path) -> None:
    restarts: list[str] = []

    async with kept_running([COMMAND], restarts.append), asyncio.timeout(PATIENCE_S):
        for number in (1, 2):
            while len(pids(pid_file)) < number:  # noqa: ASYNC110 - a file has no event
                await asyncio.sleep(0.01)
            os.kill(pids(pid_file)[-1], signal.SIGKILL)
        while len(restarts) < 2:  # noqa: ASYNC110 - a list has no event
            await asyncio.sleep(0.01)

    assert restarts == ["sleeper ended with code -9; starting it again"] * 2


async def failure_of(module: Path, text: str) -> tuple[SllmError, list[str]]:
    """Return the error with which a child with this text is given up, and its restarts."""
    module.write_text(text)  # noqa: ASYNC240 - a short file
    failed: asyncio.Future[SllmError] = asyncio.get_running_loop().create_future()
    restarts: list[str] = []
    command = ChildCommand("worker s0", module.stem, (), least_s=0.0)
    async with (
        kept_running([command], restarts.append, failed.set_result),
        asyncio.timeout(PATIENCE_S),
    ):
        return await failed, restarts


@pytest.mark.asyncio
async def test_a_child_that_the_kernel_kills_at_each_start_is_given_up(tmp_path: Path) -> None:
    text = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)\n"

    error, restarts = await failure_of(tmp_path / "sleeper.py", text)

    assert isinstance(error, ClusterError)
    assert str(error) == (
        "worker s0 does not start: it was ended by signal 9 (SIGKILL), as the kernel does when "
        "memory runs out, for the 5th time"
    )
    assert len(restarts) == 4


@pytest.mark.asyncio
async def test_a_child_that_refuses_its_arguments_is_given_up_at_once(tmp_path: Path) -> None:
    error, restarts = await failure_of(tmp_path / "sleeper.py", "import sys; sys.exit(2)\n")

    assert isinstance(error, UsageError)
    assert "worker s0 refused its arguments" in str(error)
    assert restarts == []
