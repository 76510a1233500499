"""Timed operations of a store: single writes, groups, log appends, and a put until its watcher."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

from sllmreal.store import JournalLog, Store, campaign

VALUE = bytes(range(256))
LINE = "x" * 200  # like a line of a journal, with an event and a command or two
GROUP = 32

Times = dict[str, list[float]]


async def timed(call: Callable[[int], Awaitable[object]], num_calls: int) -> list[float]:
    """Return the seconds of each call, one after the other, without the first tenth (warm-up)."""
    times_s = []
    for number in range(num_calls + num_calls // 10):
        began_s = time.perf_counter()
        await call(number)
        times_s.append(time.perf_counter() - began_s)
    return times_s[num_calls // 10 :]


async def measured(store: Store, prefix: str, num_calls: int) -> Times:
    """Time all calls, under a prefix of their own."""
    leadership = await campaign(store, f"{prefix}/leader", b"", 60.0)
    log = await JournalLog.open(store, f"{prefix}/log", leadership)

    async def group_put(number: int) -> None:
        await asyncio.gather(*(store.put(f"{prefix}/g{key}", VALUE) for key in range(GROUP)))

    async def group_append(number: int) -> None:
        await asyncio.gather(*(log.append([LINE]) for _ in range(GROUP)))

    times = {
        "get": await timed(lambda number: store.get(f"{prefix}/leader"), num_calls),
        "put": await timed(lambda number: store.put(f"{prefix}/a", VALUE), num_calls),
        f"{GROUP} puts at once": await timed(group_put, num_calls // 4),
        "fenced append": await timed(lambda number: log.append([LINE]), num_calls),
        f"{GROUP} appends at once": await timed(group_append, num_calls // 4),
        "put to watcher": await _watched(store, f"{prefix}/w", num_calls),
    }
    await leadership.resign()
    return times


async def _watched(store: Store, key: str, num_calls: int) -> list[float]:
    """Return the seconds from before each put until its event has arrived."""
    revision = await store.put(key, b"")
    async with aclosing(store.watch(key, revision)) as events:
        await anext(events)

        async def put_and_await(number: int) -> None:
            arrival = asyncio.ensure_future(anext(events))
            await store.put(key, VALUE)
            await arrival

        return await timed(put_and_await, num_calls)


def fsyncs(folder: Path, num_calls: int) -> list[float]:
    """Return the seconds of appending 256 bytes to a file durably: the baseline."""
    times_s = []
    opened = os.open(folder / "yardstick", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        for _ in range(num_calls):
            began_s = time.perf_counter()
            os.write(opened, VALUE)
            os.fdatasync(opened)
            times_s.append(time.perf_counter() - began_s)
    finally:
        os.close(opened)
    return times_s
