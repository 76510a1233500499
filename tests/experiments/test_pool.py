"""The processes of a pool end with the command."""

import os
import select
import signal
import subprocess
import sys

COMMAND = """
import os, time
from experiments.pool import run_pool
if __name__ == "__main__":
    pool = run_pool(1)
    print(pool.submit(os.getpid).result(), flush=True)
    pool.submit(time.sleep, 600)
    time.sleep(600)
"""


def test_the_processes_of_a_command_that_is_killed_end_with_it() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND], stdout=subprocess.PIPE, text=True
    ) as command:
        assert command.stdout is not None
        child = os.pidfd_open(int(command.stdout.readline()))
        command.send_signal(signal.SIGKILL)
        ended, _, _ = select.select([child], [], [], 30)
        os.close(child)

    assert ended
