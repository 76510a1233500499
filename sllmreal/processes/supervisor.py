"""Child processes that are kept running: started again when they end, ended with their parent."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

_STOP_S = 10.0  # for a child to end by itself when told to


@dataclass(frozen=True, slots=True)
class ChildCommand:
    """A Python module to run. A child that fails within `least_s` is started again after that."""

    name: str
    module: str
    arguments: tuple[str, ...]
    least_s: float = 0.5


Say = Callable[[str], None]


@asynccontextmanager
async def kept_running(commands: Sequence[ChildCommand], say: Say) -> AsyncIterator[None]:
    """Run them until the context ends; `say` is told of each that had to be started again."""
    tasks = [asyncio.create_task(_keep(command, say)) for command in commands]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _keep(command: ChildCommand, say: Say) -> None:
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
        say(f"{command.name} ended with code {code}; starting it again")
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
