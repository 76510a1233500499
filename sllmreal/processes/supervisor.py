"""Supervision of child processes: each is started again when it ends, and ends with its parent."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from sllmcore.errors import ClusterError, SllmError, UsageError

_LOG = logging.getLogger(__name__)
_STOP_S = 10.0  # from SIGTERM to SIGKILL
_STARTED_S = 10.0  # a child that has run for so long has started
_MAX_FAILED_STARTS = 5
_BAD_ARGUMENTS = 2  # exit code, see `run_process`


@dataclass(frozen=True, slots=True)
class ChildCommand:
    """A Python module to run as a child process.

    Args:
        name: The child's name in log records.
        module: The module.
        arguments: Command line of the module.
        least_s: Least time between two starts of the child.
    """

    name: str
    module: str
    arguments: tuple[str, ...]
    least_s: float = 0.5


OnRestart = Callable[[str], None]
OnFailure = Callable[[SllmError], None]


@asynccontextmanager
async def kept_running(
    commands: Sequence[ChildCommand],
    on_restart: OnRestart | None = None,
    on_failure: OnFailure | None = None,
) -> AsyncIterator[None]:
    """Keep children running until the context ends.

    Args:
        commands: The children.
        on_restart: Gets a sentence about each child that has ended and is started again.
        on_failure: Gets the error of a child that cannot start and is given up: it has refused its
            arguments, or has ended 5 times and never run for 10 s. None: no child is given up.
    """
    tasks = [asyncio.create_task(_keep(command, on_restart, on_failure)) for command in commands]
    try:
        yield
    finally:
        _LOG.info("waiting for %s to end", ", ".join(command.name for command in commands))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _keep(
    command: ChildCommand, on_restart: OnRestart | None, on_failure: OnFailure | None
) -> None:
    loop = asyncio.get_running_loop()
    has_started, num_failed = False, 0
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
        has_started = has_started or loop.time() >= began_at_s + _STARTED_S
        num_failed += 1
        failure = None if has_started else _failure(command.name, code, num_failed)
        if failure is not None and on_failure is not None:
            on_failure(failure)
            return
        ended = f"{command.name} ended with code {code}; starting it again"
        _LOG.warning("%s", ended)
        if on_restart is not None:
            on_restart(ended)
        await asyncio.sleep(max(0.0, began_at_s + command.least_s - loop.time()))


def _failure(name: str, code: int, num_failed: int) -> SllmError | None:
    """Return the error of a child that has never run for long; None if it is to start again."""
    if code == _BAD_ARGUMENTS:
        return UsageError(f"{name} refused its arguments; its last message has the reason")
    if num_failed < _MAX_FAILED_STARTS:
        return None
    how = f"ended with code {code}"
    if code < 0:
        how = f"was ended by signal {-code} ({signal.Signals(-code).name})"
    if code == -signal.SIGKILL:
        how += ", as the kernel does when memory runs out"
    return ClusterError(f"{name} does not start: it {how}, for the {num_failed}th time")


async def _stop(child: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        child.terminate()
        try:
            async with asyncio.timeout(_STOP_S):
                await child.wait()
        except TimeoutError:
            child.kill()
            await child.wait()
