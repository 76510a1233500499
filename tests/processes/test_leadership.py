"""A leadership that ends: the reason, and how long a pause a leader on SQLite survives.

Seeded bugs: a lease of 2 s on SQLite, which a busy machine ends; a successor that waits for the end
of the lease of a leader that was killed; an end of the leadership that is no error.
"""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sllmreal.control.home import Home, opened_home
from sllmreal.control.messages import GetStatus
from sllmreal.control.operator import ask
from sllmreal.leader.leader import LeaderSettings
from sllmreal.processes.leader import LEASE_S, SOLE_LEASE_S, lead
from sllmreal.store import MemoryStore
from sllmreal.store.errors import LeaseLostError

pytestmark = pytest.mark.asyncio
PATIENCE_S = SOLE_LEASE_S / 2


@asynccontextmanager
async def leader_process(home: Home) -> AsyncIterator["subprocess.Popen[bytes]"]:
    """A leader's process that leads."""
    command = [sys.executable, "-m", "sllmreal.processes.leader", "--home", str(home.directory)]
    process = subprocess.Popen(command)  # noqa: ASYNC220 - ourselves
    try:
        await ask(home, GetStatus(), PATIENCE_S)
        yield process
    finally:
        process.kill()
        process.wait()


async def term(home: Home) -> int:
    status = await ask(home, GetStatus(), PATIENCE_S)
    assert status is not None
    return status.term


async def test_a_leader_on_sqlite_survives_a_pause_longer_than_a_lease_of_etcd(
    tmp_path: Path,
) -> None:
    home = opened_home(tmp_path / "h")
    async with leader_process(home) as process:
        before = await term(home)

        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(1.5 * LEASE_S)
        process.send_signal(signal.SIGCONT)
        await asyncio.sleep(0.5)

        assert process.poll() is None
        assert await term(home) == before


async def test_the_successor_of_a_killed_leader_on_sqlite_leads_at_once(tmp_path: Path) -> None:
    home = opened_home(tmp_path / "h")
    async with leader_process(home):
        first = await term(home)

    async with leader_process(home):
        assert await term(home) > first


async def test_the_end_of_a_leadership_is_an_error_with_its_reason(tmp_path: Path) -> None:
    home = opened_home(tmp_path / "h")
    leading = asyncio.create_task(lead(home, MemoryStore(), LeaderSettings(), lease_s=1.0))
    await ask(home, GetStatus(), PATIENCE_S)

    time.sleep(1.5)  # noqa: ASYNC251 - the event loop gets no time

    with pytest.raises(LeaseLostError, match=r"the leadership is lost: .*"):
        await leading
