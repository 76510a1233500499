"""Supervision of child processes: each is started again when it ends, and ends with its parent."""

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

_LOG = logging.getLogger(__name__)
_STOP_S = 10.0  # from SIGTERM to SIGKILL


@dataclass(frozen=True, slots=True)
class ChildCommand:
    """A Python module to run as a child process.

    Args:
        name: The child's name in log records.
        module: The module.
        arguments: Its command line.
        least_s: Least time between two starts of the child.
    """

    name: str
    module: str
    arguments: tuple[str, ...]
    least_s: float = 0.5


OnRestart = Callable[[str], None]


@asynccontextmanager
async def kept_running(
    commands: Sequence[ChildCommand], on_restart: OnRestart | None = None
) -> AsyncIterator[None]:
    """Keep children running until the context ends.

    Args:
        commands: The children.
        on_restart: Gets a sentence about each child that has ended and is started again.
    """
    tasks = [asyncio.create_task(_keep(command, on_restart)) for command in commands]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _keep(command: ChildCommand, on_restart: OnRestart | None) -> None:
    loop = asyncio.get_running_loop()
    while True:
        began_at_s = loop.time()
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "sllmreal.processes.with_parent",
            str(os.getpid()),
            command.module,
            *command.arguments,
            start_new_session=True,  # the terminal's signals are for the parent
        )
        try:
            code = await child.wait()
        except asyncio.CancelledError:
            await _stop(child)
            raise
        ended = f"{command.name} ended with code {code}; starting it again"
        _LOG.warning("%s", ended)
        if on_restart is not None:
            on_restart(ended)
        await asyncio.sleep(max(0.0, began_at_s + command.least_s - loop.time()))


async def _stop(child: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        child.terminate()
        try:
            async with asyncio.timeout(_STOP_S):
                await child.wait()
        except TimeoutError:
            child.kill()
            await child.wait()
