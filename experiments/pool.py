"""A pool of processes for runs, which end when this process ends, even if it is killed."""

import ctypes
import signal
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from sllmcore.plugins import PLUGINS

_PR_SET_PDEATHSIG = 1


def run_pool(num_workers: int) -> ProcessPoolExecutor:
    """Return a pool of processes that ignore interrupts, which this process handles."""
    # A fork would copy locks held by threads of numpy and pyarrow.
    allowed = (PLUGINS.allowed,)
    return ProcessPoolExecutor(max(1, num_workers), get_context("spawn"), _begin, allowed)


def _begin(allowed: tuple[str, ...]) -> None:
    PLUGINS.allow(allowed)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":  # on other systems they finish their run
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
