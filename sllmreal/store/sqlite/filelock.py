"""One owner of a file at a time."""

import fcntl
import os
from pathlib import Path

from sllmreal.store.errors import StoreInUseError, StoreUnavailableError


class FileLock:
    """Held from construction until `release`, or until the process ends, however it ends.

    A process forked while it is held shares it: start children by exec.

    Raises:
        StoreInUseError: Another holds it; the message says its process.
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
        """Let another have it. Once."""
        os.close(self._file)
