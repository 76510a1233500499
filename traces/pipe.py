"""Pipes as trace files: `-`, `/dev/stdin` or a named pipe, copied once so that they can be reread.

A trace is read several times (format, time unit, rate, rows), but a pipe only once.
"""

import io
import shutil
import stat
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import BinaryIO, cast

STANDARD_INPUT = "-"


def is_pipe(path: Path | str) -> bool:
    """Return True for standard input and for a pipe."""
    if str(path) == STANDARD_INPUT:
        return True
    try:
        mode = Path(path).stat().st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode)


def opened(path: Path | str) -> io.BufferedReader:
    """Return a trace file, opened at its start; a pipe is read to its end first.

    Raises:
        OSError: The file cannot be opened.
    """
    if not is_pipe(path):
        return Path(path).open("rb")
    # A second descriptor of the file would share its position.
    return Path(f"/proc/self/fd/{_copied(str(path)).fileno()}").open("rb")


@cache
def _copied(path: str) -> BinaryIO:
    """Return a temporary file without a name that has the content of a pipe."""
    copy = cast("BinaryIO", tempfile.TemporaryFile())  # noqa: SIM115 - lives as long as the process
    if path == STANDARD_INPUT:
        shutil.copyfileobj(sys.stdin.buffer, copy)
    else:
        with Path(path).open("rb") as pipe:
            shutil.copyfileobj(pipe, copy)
    copy.flush()
    return copy
