"""Opening files of a checkpoint so that none of them can surprise: regular, whole, no traversal.

The directory is opened once and files relative to it, so that a checkpoint that is replaced while
it is read stays the old one. Opening never blocks: a FIFO is refused instead of waited for.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sllmreal.checkpoint.errors import BadCheckpointError, StorageError

# A disk, or too many open files, and not the checkpoint: another attempt may succeed.
_PASSING = frozenset(
    (errno.EIO, errno.EINTR, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.ESTALE)
)
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """A descriptor that the opener closes, and what it said of itself when it was opened."""

    fd: int
    size_bytes: int
    stamp: str  # differs when the file was replaced or rewritten


@contextmanager
def opened_directory(path: Path) -> Iterator[int]:
    """A descriptor of the directory `path`, closed at the end."""
    try:
        fd = os.open(path, _FLAGS | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BadCheckpointError(f"{path} is no directory") from error
    except ValueError as error:
        raise BadCheckpointError(f"{str(path)!r} is no path: {error}") from error
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
    """The regular file `name`, closed at the end.

    `direct` asks for direct I/O and raises OSError(EINVAL) where the file system has none.
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
        yield _described(fd, str(name))
    finally:
        close_unwritten(fd)


def close_unwritten(fd: int) -> None:
    """Close a descriptor through which nothing was written: no error of that means anything."""
    with suppress(OSError):
        os.close(fd)


def _described(fd: int, name: str) -> OpenedFile:
    try:
        status = os.fstat(fd)
    except OSError as error:
        raise StorageError(f"reading {name}: {error}") from error
    if not stat.S_ISREG(status.st_mode):
        raise BadCheckpointError(f"{name} is not a regular file")
    stamp = f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"
    return OpenedFile(fd, status.st_size, stamp)


def read_exactly(file: OpenedFile, size_bytes: int, offset_bytes: int, name: str) -> bytes:
    """`size_bytes` from `offset_bytes`; StorageError on a read error or an early end."""
    parts: list[bytes] = []
    missing = size_bytes
    while missing:
        try:
            part = os.pread(file.fd, missing, offset_bytes + size_bytes - missing)
        except OSError as error:
            raise StorageError(f"reading {name}: {error}") from error
        if not part:
            raise StorageError(f"{name} ended {missing} bytes early: it changed while read")
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)
