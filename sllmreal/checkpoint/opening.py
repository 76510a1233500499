"""Safe opening of a checkpoint's files: regular files only, no path traversal.

The directory is opened once and files relative to it, so a reader sees the old checkpoint even if
it is replaced meanwhile. Opening never blocks: a FIFO is refused.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sllmreal.checkpoint.errors import BadCheckpointError, ClosedError, StorageError

# Errors of a disk or of the process, not of the checkpoint: another attempt may succeed.
_PASSING = frozenset(
    (errno.EIO, errno.EINTR, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.ESTALE)
)
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK


class OpenedFile:
    """A descriptor, which its opener closes, and the file's state at opening.

    `stamp` changes when the file is replaced or rewritten.
    """

    def __init__(self, fd: int, name: str) -> None:
        """Describe the open file `name`. Raises BadCheckpointError unless it is regular."""
        try:
            status = os.fstat(fd)
        except OSError as error:
            raise StorageError(f"reading {name}: {error}") from error
        if not stat.S_ISREG(status.st_mode):
            raise BadCheckpointError(f"{name} is not a regular file")
        self._fd: int | None = fd
        self._name = name
        self.size_bytes = status.st_size
        times = f"{status.st_size}:{status.st_mtime_ns}"
        self.stamp = f"{status.st_dev}:{status.st_ino}:{times}"

    @property
    def fd(self) -> int:
        """The descriptor. Raises ClosedError after `close`."""
        if self._fd is None:
            raise ClosedError(f"{self._name} is closed: close it after its last use")
        return self._fd

    def close(self) -> None:
        """Close the descriptor."""
        fd, self._fd = self._fd, None
        if fd is not None:
            close_unwritten(fd)


@contextmanager
def opened_directory(path: Path) -> Iterator[int]:
    """Open the directory `path`; its descriptor is closed at the end.

    Raises BadCheckpointError if it is not a directory, StorageError if it cannot be opened.
    """
    try:
        fd = os.open(path, _FLAGS | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BadCheckpointError(f"{path} is not a directory") from error
    except ValueError as error:
        raise BadCheckpointError(f"{str(path)!r} is not a path: {error}") from error
    except OSError as error:
        raise StorageError(f"cannot open {path}: {error}") from error
    try:
        yield fd
    finally:
        close_unwritten(fd)


@contextmanager
def opened_file(
    name: str | Path, *, dir_fd: int | None = None, follow: bool = False, direct: bool = False
) -> Iterator[OpenedFile]:
    """Open the regular file `name`; it is closed at the end.

    `direct` opens it for direct I/O; raises OSError(EINVAL) if the file system has none. Raises
    BadCheckpointError if the file is missing or not regular, StorageError if a disk fails.
    """
    flags = _FLAGS | (0 if follow else os.O_NOFOLLOW) | (os.O_DIRECT if direct else 0)
    try:
        fd = os.open(name, flags, dir_fd=dir_fd)
    except FileNotFoundError as error:
        raise BadCheckpointError(f"{name} is missing") from error
    except OSError as error:
        if direct and error.errno == errno.EINVAL:
            raise
        kind = StorageError if error.errno in _PASSING else BadCheckpointError
        raise kind(f"cannot open {name}: {error.strerror}") from error
    try:
        file = OpenedFile(fd, str(name))
    except BaseException:
        close_unwritten(fd)
        raise
    try:
        yield file
    finally:
        file.close()


def close_unwritten(fd: int) -> None:
    """Close a descriptor that was not written to, ignoring errors: they mean no data loss."""
    with suppress(OSError):
        os.close(fd)


def read_exactly(file: OpenedFile, size_bytes: int, offset_bytes: int, name: str) -> bytes:
    """Read `size_bytes` from `offset_bytes`. Raises StorageError on an error or an early end."""
    parts: list[bytes] = []
    missing = size_bytes
    while missing:
        try:
            part = os.pread(file.fd, missing, offset_bytes + size_bytes - missing)
        except OSError as error:
            raise StorageError(f"reading {name}: {error}") from error
        if not part:
            raise StorageError(
                f"{name} ended {missing} bytes early: it was changed while it was read"
            )
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)
