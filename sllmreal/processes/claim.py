"""Claims on a cluster's directory: one process at a time in each role.

A claim is a lock on a file. The kernel releases it when its process ends, however it ends.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sllmcore.errors import UsageError
from sllmreal.control.home import Home
from sllmreal.store.errors import StoreInUseError
from sllmreal.store.sqlite.filelock import FileLock

# The processes of a cluster that was killed take a while to end; their successors wait for them.
HANDOVER_S = 10.0
_RETRY_S = 0.1


@asynccontextmanager
async def claimed(home: Home, role: str, wait_s: float = 0.0) -> AsyncIterator[None]:
    """Hold a role of a home until the context ends.

    Args:
        home: The cluster's directory.
        role: Name of the role: "cluster", "leader", "worker s0".
        wait_s: Seconds to wait for another process that has the role.

    Raises:
        UsageError: Another process has the role.
        StoreUnavailableError: The file cannot be made.
    """
    loop = asyncio.get_running_loop()
    until_s = loop.time() + wait_s
    path = home.directory / f"{role.replace(' ', '-')}.lock"
    while True:
        try:
            lock = FileLock(path)
            break
        except StoreInUseError as error:
            if loop.time() >= until_s:
                article = "" if " " in role else "a "
                raise UsageError(
                    f"{article}{role} runs in {home.directory} already (process {error.owner})"
                ) from error
        await asyncio.sleep(_RETRY_S)
    try:
        yield
    finally:
        lock.release()
