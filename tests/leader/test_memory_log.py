"""`MemoryLog` fulfils the contract of `EventLog`."""

import pytest

from sllmreal.leader.memory_log import MemoryLog


async def lines(log: MemoryLog) -> list[str]:
    return [line async for line in log.lines()]


@pytest.mark.asyncio
async def test_lines_come_back_in_order() -> None:
    log = MemoryLog()

    await log.append(["a", "b"])
    await log.append(["c"])

    assert await lines(log) == ["a", "b", "c"]
    assert await log.snapshot() is None


@pytest.mark.asyncio
async def test_a_snapshot_replaces_the_lines_up_to_its_append_and_no_later_ones() -> None:
    """Seeded bug: `compact` counts lines from the log's beginning, not from the last snapshot."""
    log = MemoryLog()
    first = await log.append(["a", "b"])
    await log.append(["c"])
    await log.compact(b"a, b", first)
    assert (await log.snapshot(), await lines(log)) == (b"a, b", ["c"])

    second = await log.append(["d"])
    await log.append(["e"])
    await log.compact(b"a to d", second)

    assert (await log.snapshot(), await lines(log), log.num_keys) == (b"a to d", ["e"], 1)
    await log.compact(b"all")
    assert (await log.snapshot(), await lines(log)) == (b"all", [])
