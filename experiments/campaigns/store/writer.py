"""The child process of `kills`: write to a SQLite store until killed.

    python -m experiments.campaigns.store.writer store.db

Prints one line after each acknowledged write: `put <key> <number>` for clients that each increment
the number of a key, `log <number>` for lines that are appended to a log.
"""

import asyncio
import os
import sys
from pathlib import Path

from sllmreal.store import JournalLog, Store, campaign
from sllmreal.store.sqlite import SqliteStore

CLIENTS = 4


def _print_at_once(line: str) -> None:
    os.write(1, f"{line}\n".encode())  # a kill loses what print has buffered


async def _increment(store: Store, key: str) -> None:
    item = await store.get(key)
    number = int(item.value) if item else 0
    while True:
        number += 1
        await store.put(key, str(number).encode())
        _print_at_once(f"put {key} {number}")


async def _append(log: JournalLog, number: int) -> None:
    while True:
        await log.append([str(number)])
        _print_at_once(f"log {number}")
        number += 1


async def main(path: Path) -> None:
    """Write to the store at `path` until the process is killed."""
    store = await SqliteStore.open(path)
    leader = await store.get("leader")
    if leader is not None and leader.lease_id is not None:
        await store.revoke(leader.lease_id)
    leadership = await campaign(store, "leader", b"", 60.0)
    log = await JournalLog.open(store, "log", leadership)
    num_lines = len([line async for line in log.lines()])
    clients = [_increment(store, f"k{number}") for number in range(CLIENTS)]
    await asyncio.gather(_append(log, num_lines), *clients)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
