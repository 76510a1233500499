"""What the processes of a cluster have in common: they end when told to, and say why otherwise."""

import asyncio
import signal
import sys
from collections.abc import Coroutine

from sllmcore.errors import SllmError, UsageError


def run_process(name: str, work: Coroutine[object, object, None]) -> int:
    """Run until done or told to stop; the exit code: 0 for both, 1 when a machine is at fault, 2
    when the arguments are."""
    try:
        asyncio.run(_until_signalled(work))
    except SllmError as error:
        sys.stderr.write(f"{name}: {error}\n")
        return 2 if isinstance(error, UsageError) else 1
    return 0


def cancel_on_signals(task: "asyncio.Task[None]") -> None:
    """Have SIGTERM and SIGINT cancel it, whatever libraries have made of them meanwhile."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)


async def _until_signalled(work: Coroutine[object, object, None]) -> None:
    task = asyncio.ensure_future(work)
    cancel_on_signals(task)
    try:
        await task
    except asyncio.CancelledError:
        return
