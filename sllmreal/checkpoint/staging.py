"""Atomic publication of a directory: filled beside its target, then renamed into place.

After a crash at any instant, the target is the old checkpoint or the new one. A failed fsync ends
the attempt: the kernel has dropped the dirty pages, so a second fsync would only hide the loss.
"""

import ctypes
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sllmcore.errors import UsageError
from sllmreal.checkpoint.errors import StorageError
from sllmreal.checkpoint.index import INDEX_FILE
from sllmreal.checkpoint.opening import close_unwritten

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@dataclass(frozen=True, slots=True)
class Staging:
    """A locked directory in which a checkpoint is being built."""

    path: Path
    target: Path

    def publish(self) -> None:
        """Make the directory the target, durably; delete the old target.

        Raises StorageError.
        """
        try:
            fsync_directory(self.path)
            if self.target.exists():
                self._replace()
            else:
                self.path.rename(self.target)
                fsync_directory(self.target.parent)
        except OSError as error:
            raise StorageError(f"publishing {self.target}: {error}") from error

    def _replace(self) -> None:
        # After the exchange, the old checkpoint has the staging directory's name. It is locked so
        # that the next writer does not fill a directory that is being deleted.
        with _locked(self.target, wait=True):
            _exchange(self.path, self.target)
            fsync_directory(self.target.parent)
            # The new checkpoint is published: a failure to delete the old one is no failure of
            # the publication, and the next writer of this target empties the directory.
            shutil.rmtree(self.path, ignore_errors=True)


@contextmanager
def staged(target: Path, *, replace: bool) -> Iterator[Staging]:
    """Lock the staging directory of `target` until the end; on failure it is kept, to resume.

    Raises UsageError if the target exists and `replace` is not set, if it is not a checkpoint, or
    if another process is writing it; StorageError if a disk fails.
    """
    target = Path(target).absolute()
    staging = target.parent / f".{target.name}.partial"
    try:
        _check_replaceable(target, replace)
        staging.mkdir(parents=True, exist_ok=True)
        with _locked(staging):
            yield Staging(staging, target)
    except OSError as error:
        raise StorageError(f"writing {target}: {error}") from error


def _check_replaceable(target: Path, replace: bool) -> None:
    if target.exists() or target.is_symlink():
        if not replace:
            raise UsageError(f"{target} exists: choose another directory, or allow replacing it")
        if target.is_symlink() or not (target / INDEX_FILE).is_file():
            raise UsageError(f"{target} is not a checkpoint: it is not replaced")


@contextmanager
def _locked(directory: Path, *, wait: bool = False) -> Iterator[None]:
    """Lock the directory of this name. Raises UsageError if another process has locked it."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(f"another process is writing in {directory}: wait for it") from error
        if not _has_name(fd, directory):
            raise UsageError(f"another process published {directory} meanwhile: try again")
        yield
    finally:
        close_unwritten(fd)


def _has_name(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.lstat())
    except FileNotFoundError:
        return False


def empty_directory(directory: Path) -> None:
    """Delete everything that an earlier attempt left in the directory."""
    for entry in directory.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def fsync_directory(path: Path) -> None:
    """Make the file names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        close_unwritten(fd)


def write_durably(path: Path, content: bytes) -> None:
    """Write a small file durably; the caller makes its name durable. Raises StorageError."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(fd, rest) :]
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise StorageError(f"writing {path}: {error}") from error


def _exchange(one: Path, other: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.renameat2(
        _AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE
    )
    if result != 0:
        code = ctypes.get_errno()
        if code in (errno.ENOSYS, errno.EINVAL):
            raise OSError(code, "this file system cannot exchange two directories atomically")
        raise OSError(code, os.strerror(code), str(other))
