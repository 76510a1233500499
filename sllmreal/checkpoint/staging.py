"""A directory that appears whole or not at all: filled beside its target, then renamed into place.

After a crash at any instant the target is the old checkpoint or the new one. A failed fsync ends
the attempt: the kernel has dropped the dirty pages, so trying again would only hide the loss.
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
        """Make the directory the target, durably; what was there before is deleted."""
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
        # Exchanged, the old checkpoint lies where the next writer would stage: unless it is locked
        # too, that writer fills a directory that is being deleted.
        with _locked(self.target, wait=True):
            _exchange(self.path, self.target)
            fsync_directory(self.target.parent)
            # The new checkpoint is published by now: what cannot be deleted of the old one is
            # no failure of that, and the next writer of this target empties the directory.
            shutil.rmtree(self.path, ignore_errors=True)


@contextmanager
def staged(target: Path, *, replace: bool) -> Iterator[Staging]:
    """The staging directory for `target`, ours alone until the end; kept on failure, to resume.

    Raises UsageError where the target exists and `replace` is not set, or is no checkpoint, and
    where another process is writing it; StorageError where a disk fails.
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
            raise UsageError(f"{target} exists")
        if target.is_symlink() or not (target / INDEX_FILE).is_file():
            raise UsageError(f"{target} is no checkpoint: refusing to replace it")


@contextmanager
def _locked(directory: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock of the directory that has this name; UsageError where another process does."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(f"another process is writing in {directory}") from error
        if not _has_name(fd, directory):
            raise UsageError(f"another process published {directory} meanwhile")
        yield
    finally:
        close_unwritten(fd)


def _has_name(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.lstat())
    except FileNotFoundError:
        return False


def emptied(staging: Path) -> None:
    """Delete all that an earlier attempt left."""
    for entry in staging.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def fsync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        close_unwritten(fd)


def write_durably(path: Path, content: bytes) -> None:
    """Write a small file and make it durable; the caller makes its name durable."""
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
