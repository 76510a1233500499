"""A lock of a file, held by one process at a time."""

import fcntl
import os
from pathlib import Path

from sllmreal.store.errors import StoreInUseError, StoreUnavailableError


class FileLock:
    """A lock that is held from construction until `release`, or until the process ends in any way.

    A process forked while the lock is held shares it: start children by exec.

    Raises:
        StoreInUseError: Another process holds the lock; the message has its process id.
        StoreUnavailableError: The file cannot be made.
    """

    def __init__(self, path: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._file = os.open(path, flags, 0o600)
        except OSError as error:
            raise StoreUnavailableError(f"{path}: {error}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(self._file, 20, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._file)
            raise StoreInUseError(path, owner) from error
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        """Release the lock. Call it once."""
        os.close(self._file)
