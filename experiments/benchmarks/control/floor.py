"""Lower bounds of the control plane's times on this machine: a durable append, an echo."""

import asyncio
import os
import sys
import time
from pathlib import Path

_SYNC_BYTES = 4096
_ECHO = """
import sys
for line in sys.stdin.buffer:
    sys.stdout.buffer.write(line)
    sys.stdout.flush()
"""


def sync_seconds(folder: Path, count: int, every_s: float) -> list[float]:
    """Return the seconds of `count` durable appends of a page, `every_s` apart.

    Every commit of the store contains one.
    """
    seconds = []
    file = os.open(folder / "floor", os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        for _ in range(count):
            time.sleep(every_s)
            began_s = time.perf_counter()
            os.write(file, bytes(_SYNC_BYTES))
            os.fdatasync(file)
            seconds.append(time.perf_counter() - began_s)
    finally:
        os.close(file)
        (folder / "floor").unlink()
    return seconds


async def echo_seconds(count: int, every_s: float) -> list[float]:
    """Return the seconds of `count` lines to another process and back, `every_s` apart.

    Each contains two process switches.
    """
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _ECHO, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert child.stdin is not None and child.stdout is not None, "both are pipes"
    seconds = []
    for _ in range(count):
        await asyncio.sleep(every_s)
        began_s = time.perf_counter()
        child.stdin.write(b"x\n")
        await child.stdout.readline()
        seconds.append(time.perf_counter() - began_s)
    child.stdin.close()
    await child.wait()
    return seconds
