"""Runs a module in a process that ends with its parent.

python -m sllmreal.processes.with_parent PARENT_PID MODULE [ARGUMENTS...]

The child itself asks the kernel for that. Code between fork and exec could not: in a parent with
threads it may wait for a lock of a thread that does not exist in the child.
"""

import ctypes
import os
import runpy
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(argv: list[str]) -> None:
    """Run MODULE. It gets SIGTERM when the parent's thread that started it ends."""
    parent_pid, module = int(argv[1]), argv[2]
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent_pid:  # the parent had died before `prctl`
        sys.exit(1)
    sys.argv = argv[2:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv)
