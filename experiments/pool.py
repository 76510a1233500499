"""Processes that carry out runs: fresh ones, that end with this one however it ends."""

import ctypes
import signal
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from sllmcore.plugins import PLUGINS

_PR_SET_PDEATHSIG = 1


def run_pool(num_workers: int) -> ProcessPoolExecutor:
    """A pool of so many; interrupts are left to this process."""
    # A fork would copy the locks of numpy's and pyarrow's threads.
    allowed = (PLUGINS.allowed,)
    return ProcessPoolExecutor(max(1, num_workers), get_context("spawn"), _begin, allowed)


def _begin(allowed: tuple[str, ...]) -> None:
    PLUGINS.allow(allowed)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":  # elsewhere one that is killed leaves them to end their run
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
