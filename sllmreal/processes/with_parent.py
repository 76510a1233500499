"""Runs a module in a process that ends with its parent.

python -m sllmreal.processes.with_parent PARENT_PID MODULE [ARGUMENTS...]

The child asks the kernel itself: code between fork and exec, in a parent with threads, may wait for
a lock that none of its threads is there to release.
"""

import ctypes
import os
import runpy
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(argv: list[str]) -> None:
    """Become MODULE, which ends by SIGTERM when the thread that started it does."""
    parent_pid, module = int(argv[1]), argv[2]
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent_pid:  # it died before the kernel was asked
        sys.exit(1)
    sys.argv = argv[2:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv)
