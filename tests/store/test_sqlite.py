"""The store in a file beyond the contract: the file itself.

Seeded by hand and seen to fail: answers given before the commit (kills lose writes); deadlines not
stored (a lease lives a whole TTL more after each restart).
"""

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
import time
from contextlib import aclosing
from pathlib import Path
from random import Random

import pytest

from experiments.campaigns.store.kills import AcknowledgedWrites, losses, run_and_kill_writer
from sllmreal.store.clock import ManualClock
from sllmreal.store.errors import (
    CompactedError,
    OutcomeUnknownError,
    StoreFormatError,
    StoreInUseError,
    StoreUnavailableError,
)
from sllmreal.store.sqlite import SqliteStore, committer
from sllmreal.store.values import KeyValue, Put, Removed, Txn

pytestmark = pytest.mark.asyncio


async def test_what_was_written_is_there_when_the_file_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = await SqliteStore.open(path)
    first = await store.put("a", b"1")
    second = await store.put("a", b"2")
    await store.close()

    again = await SqliteStore.open(path)

    assert await again.get("a") == KeyValue("a", b"2", second, first, None)
    assert await again.put("b", b"") == second + 1
    with pytest.raises(CompactedError):
        async with aclosing(again.watch("", first)) as events:
            await anext(events)
    await again.close()


async def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "store.db")
    await store.put("a", b"secret")

    names = ("store.db", "store.db-wal", "store.db.lock")
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in names] == [0o600] * 3
    await store.close()


async def test_a_second_store_on_the_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = await SqliteStore.open(path)
    program = f"""
import asyncio, pathlib
from sllmreal.store.sqlite import SqliteStore
asyncio.run(SqliteStore.open(pathlib.Path({str(path)!r})))
"""

    with pytest.raises(StoreInUseError, match=str(os.getpid())):
        await SqliteStore.open(path)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stderr=subprocess.PIPE
    )
    _, output = await process.communicate()

    assert process.returncode == 1
    assert f"store.db.lock is held by process {os.getpid()}" in output.decode()
    assert await store.put("a", b"") == 1
    await store.close()
    await (await SqliteStore.open(path)).close()


async def test_a_file_that_is_something_else_is_left_alone(tmp_path: Path) -> None:
    text, other = tmp_path / "text.db", tmp_path / "other.db"
    text.write_text("x" * 10_000)
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE mine (a)")
    connection.close()

    for path in (text, other):
        with pytest.raises(StoreFormatError):
            await SqliteStore.open(path)

    assert text.read_text() == "x" * 10_000
    with pytest.raises(StoreUnavailableError):
        await SqliteStore.open(tmp_path)
    with pytest.raises(StoreUnavailableError):
        await SqliteStore.open(tmp_path / "nowhere" / "store.db")


async def test_concurrent_writers_share_commits(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "store.db")
    commits = 0

    def traced(statement: str) -> None:
        nonlocal commits
        commits += statement == "COMMIT"

    await store._committer.call(lambda _, table: table._sql.set_trace_callback(traced))
    await asyncio.gather(*(store.put(f"k{number}", b"") for number in range(200)))

    assert commits <= 6
    await store.close()


async def test_a_lease_keeps_its_deadline_over_a_restart(tmp_path: Path) -> None:
    path, clock = tmp_path / "store.db", ManualClock()
    store = await SqliteStore.open(path, clock)
    lease = await store.lease(10.0)
    revision = await store.put("a", b"", lease_id=lease.id)
    clock.advance(4.0)
    await lease.keep_alive()
    await store.close()

    clock.advance(9.0)
    again = await SqliteStore.open(path, clock)
    before = await again.get("a")
    clock.advance(1.0)

    assert before is not None
    async with aclosing(again.watch("", revision + 1)) as events:
        assert await anext(events) == Removed("a", revision + 1)
    await again.close()


async def test_a_lease_from_before_the_machine_restarted_lives_a_whole_ttl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, clock = tmp_path / "store.db", ManualClock()
    clock.advance(1e6)
    store = await SqliteStore.open(path, clock)
    lease = await store.lease(10.0)
    await store.put("a", b"", lease_id=lease.id)
    await store.close()

    rebooted = ManualClock()
    monkeypatch.setattr(committer, "boot_id", lambda: "another")
    again = await SqliteStore.open(path, rebooted)
    rebooted.advance(9.999)
    before = await again.get("a")
    rebooted.advance(0.001)

    assert before is not None
    assert await again.get("a") is None
    await again.close()


async def test_a_full_disk_refuses_writes_and_keeps_what_was(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "store.db")
    first = await store.put("a", b"1")
    await store._committer.call(lambda _, table: table._sql.execute("PRAGMA max_page_count = 20"))

    with pytest.raises(StoreUnavailableError, match="full"):
        await store.put("b", bytes(1 << 20))
    second = await store.put("a", b"2")

    assert second == first + 1
    assert await store.get("b") is None
    await store.close()


async def test_a_keep_alive_that_was_rolled_back_keeps_nothing_alive(tmp_path: Path) -> None:
    """The deadline of the next lease is not kept from a transaction that was rolled back."""
    clock = ManualClock()
    store = await SqliteStore.open(tmp_path / "store.db", clock)
    lease = await store.lease(10.0)
    await store.put("a", b"", lease_id=lease.id)
    await store._committer.call(lambda _, table: table._sql.execute("PRAGMA max_page_count = 20"))
    clock.advance(9.0)

    _, *refusals = await asyncio.gather(
        store._committer.call(lambda *_: time.sleep(0.05)),  # the others share a commit
        lease.keep_alive(),
        store.put("b", bytes(1 << 20)),
        return_exceptions=True,
    )
    clock.advance(1.0)

    assert [type(refusal) for refusal in refusals] == [StoreUnavailableError] * 2
    assert await store.get("a") is None
    await store.close()


async def test_after_a_commit_that_failed_nothing_is_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is wrapped, because a disk with a failing fsync cannot be had."""
    real = committer._connected

    class Failing:
        def __init__(self, connection: sqlite3.Connection) -> None:
            self.connection = connection
            self.failing = False

        def execute(self, statement: str, parameters: tuple[object, ...] = ()) -> object:
            if self.failing and statement == "COMMIT":
                raise sqlite3.OperationalError("disk I/O error")
            return self.connection.execute(statement, parameters)

        def __getattr__(self, name: str) -> object:
            return getattr(self.connection, name)

    made: list[Failing] = []

    def connected(path: Path) -> Failing:
        made.append(Failing(real(path)))
        return made[0]

    monkeypatch.setattr(committer, "_connected", connected)
    store = await SqliteStore.open(tmp_path / "store.db")
    await store.put("a", b"1")
    made[0].failing = True

    with pytest.raises(OutcomeUnknownError):
        await store.txn(Txn((), (Put("a", b"2"),)))
    with pytest.raises(StoreUnavailableError, match="disk I/O error"):
        await store.get("a")
    await store.close()


async def test_a_writer_killed_at_any_instant_loses_no_acknowledged_write(tmp_path: Path) -> None:
    rng, acknowledged = Random(3), AcknowledgedWrites()

    for _ in range(4):
        await asyncio.to_thread(
            run_and_kill_writer, tmp_path / "store.db", rng.uniform(0.0, 0.1), acknowledged
        )
        assert await losses(tmp_path / "store.db", acknowledged) == []

    assert acknowledged.num_lines > 3
    assert len(acknowledged.numbers) == 4
