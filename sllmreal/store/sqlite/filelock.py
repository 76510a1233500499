"""One owner of a file at a time."""

import fcntl
import os
from pathlib import Path

from sllmreal.store.errors import StoreInUseError


class FileLock:
    """Held from construction until `release`, or until the process ends, however it ends.

    A process forked while it is held shares it: start children by exec.

    Raises:
        StoreInUseError: Another holds it; the message says its process.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(self._file, 20, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._file)
            raise StoreInUseError(f"{path} is held by process {owner}") from error
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        """Let another have it. Once."""
        os.close(self._file)
