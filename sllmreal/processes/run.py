"""The life of a cluster's process: it runs until a signal ends it, or logs the error that did."""

import asyncio
import logging
import signal
from collections.abc import Coroutine

from sllmcore.errors import SllmError, UsageError
from sllmreal.processes.extras import missing_extra

_LOG = logging.getLogger(__name__)


def run_process(name: str, work: Coroutine[object, object, None]) -> int:
    """Run until the work is done or a signal stops it.

    Returns:
        The exit code: 0 when done or stopped, 2 for a UsageError, 1 for another SllmError.
    """
    try:
        asyncio.run(_until_signalled(work))
    except ModuleNotFoundError as error:
        _LOG.error("%s: %s", name, missing_extra(error))
        return 2
    except UsageError as error:
        _LOG.error("%s: %s", name, error)
        return 2
    except SllmError as error:
        _LOG.warning("%s ends: %s", name, error)
        return 1
    return 0


def cancel_on_signals(task: "asyncio.Task[None]") -> None:
    """Have SIGTERM and SIGINT cancel a task, in place of the handlers that libraries have set."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)


async def _until_signalled(work: Coroutine[object, object, None]) -> None:
    task = asyncio.ensure_future(work)
    cancel_on_signals(task)
    try:
        await task
    except asyncio.CancelledError:
        return
