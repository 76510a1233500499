"""A process that writes to a SQLite store and says what was acknowledged, until it is killed.

    python -m experiments.campaigns.store.writer store.db

One line on stdout for each acknowledged write, after its acknowledgement: `put <key> <number>` of
clients that count up a key each, `log <number>` of lines appended to a log.
"""

import asyncio
import os
import sys
from pathlib import Path

from sllmreal.store import JournalLog, Store, campaign
from sllmreal.store.sqlite import SqliteStore

CLIENTS = 4


def _say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


async def _count(store: Store, key: str) -> None:
    item = await store.get(key)
    number = int(item.value) if item else 0
    while True:
        number += 1
        await store.put(key, str(number).encode())
        _say(f"put {key} {number}")


async def _append(log: JournalLog, number: int) -> None:
    while True:
        await log.append([str(number)])
        _say(f"log {number}")
        number += 1


async def main(path: Path) -> None:
    """Write until killed."""
    store = await SqliteStore.open(path)
    leader = await store.get("leader")
    if leader is not None and leader.lease_id is not None:
        await store.revoke(leader.lease_id)
    leadership = await campaign(store, "leader", b"", 60.0)
    log = await JournalLog.open(store, "log", leadership)
    num_lines = len([line async for line in log.lines()])
    clients = [_count(store, f"k{number}") for number in range(CLIENTS)]
    await asyncio.gather(_append(log, num_lines), *clients)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
