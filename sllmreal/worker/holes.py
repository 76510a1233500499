"""Holes in files: disk space is freed while the file keeps its length."""

import ctypes
import errno
import os

_KEEP_SIZE_AND_PUNCH = 0x01 | 0x02  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE


def punch(fd: int, begin: int, end: int) -> None:
    """Make bytes [begin, end) zero and free their blocks.

    On a file system without holes this does nothing: the space is freed with the whole file.
    """
    if end <= begin:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    size = ctypes.c_int64(end - begin)
    if libc.fallocate64(fd, _KEEP_SIZE_AND_PUNCH, ctypes.c_int64(begin), size) != 0:
        code = ctypes.get_errno()
        if code not in (errno.EOPNOTSUPP, errno.ENOSYS):
            raise OSError(code, os.strerror(code))
