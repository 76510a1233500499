"""Children are started again when they end, and end with their parent, however that ends.

Seeded by hand and seen to fail: a child that does not ask the kernel to be ended.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

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
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a module of that name says its pid, a line each time it runs; then it sleeps."""
    module = tmp_path / "sleeper.py"
    module.write_text(
        "import os, time\n"
        "with open(os.environ['SAID'], 'a') as said: said.write(f'{os.getpid()}\\n')\n"
        "time.sleep(600)\n"
    )
    said = tmp_path / "said"
    said.touch()
    monkeypatch.setenv("SAID", str(said))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(Path.cwd())]))
    return said


def pids(said: Path) -> list[int]:
    lines = said.read_text().splitlines(keepends=True)
    return [int(line) for line in lines if line.endswith("\n")]


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_child_ends_with_a_parent_that_is_killed(said: Path) -> None:
    until_s = time.monotonic() + PATIENCE_S
    with subprocess.Popen([sys.executable, "-c", PARENT]) as parent:
        try:
            while not pids(said) and time.monotonic() < until_s:
                time.sleep(0.01)
            (child,) = pids(said)
            assert runs(child)
        finally:
            parent.kill()
    while runs(child) and time.monotonic() < until_s:
        time.sleep(0.01)

    assert not runs(child)


def test_a_child_whose_parent_died_first_does_not_start(said: Path) -> None:
    with subprocess.Popen(["true"]) as parent:
        pass

    command = [sys.executable, "-m", "sllmreal.processes.with_parent", str(parent.pid), "sleeper"]
    assert subprocess.run(command, check=False, timeout=PATIENCE_S).returncode == 1
    assert pids(said) == []


@pytest.mark.asyncio
async def test_a_child_that_ends_is_started_again(said: Path) -> None:
    told: list[str] = []

    async with kept_running([COMMAND], told.append), asyncio.timeout(PATIENCE_S):
        for number in (1, 2):
            while len(pids(said)) < number:  # noqa: ASYNC110 - told by a file
                await asyncio.sleep(0.01)
            os.kill(pids(said)[-1], signal.SIGKILL)
        while len(told) < 2:  # noqa: ASYNC110 - a list has no event
            await asyncio.sleep(0.01)

    assert told == ["sleeper ended with code -9; starting it again"] * 2
