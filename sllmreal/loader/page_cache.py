"""The cached part of a file, from the system call cachestat (Linux 6.5)."""

import ctypes
import os

_SYS_CACHESTAT = 451  # the same number on every architecture


class _Range(ctypes.Structure):
    _fields_ = (("off", ctypes.c_uint64), ("len", ctypes.c_uint64))


class _Cachestat(ctypes.Structure):
    _fields_ = (
        ("nr_cache", ctypes.c_uint64),
        ("nr_dirty", ctypes.c_uint64),
        ("nr_writeback", ctypes.c_uint64),
        ("nr_evicted", ctypes.c_uint64),
        ("nr_recently_evicted", ctypes.c_uint64),
    )


def cached_bytes(fd: int, offset_bytes: int, size_bytes: int) -> int | None:
    """Return the bytes of that range in cached pages; None if the kernel lacks cachestat."""
    libc = ctypes.CDLL(None, use_errno=True)
    span = _Range(offset_bytes, size_bytes)
    state = _Cachestat()
    if libc.syscall(_SYS_CACHESTAT, fd, ctypes.byref(span), ctypes.byref(state), 0) != 0:
        return None
    return int(state.nr_cache) * os.sysconf("SC_PAGE_SIZE")
