"""Control of the page cache: its content is set before a load and measured.

cached_share = cached pages of the files that a loader reads / all their pages,  before the load.
"""

import ctypes
import mmap
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sllmreal.loader.page_cache import cached_bytes

_READ_BYTES = 8 << 20


def drop(files: Iterable[Path]) -> None:
    """Drop these files from the page cache; needs no privilege."""
    for file in files:
        with _opened(file) as fd:
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def warm(files: Iterable[Path]) -> None:
    """Read these files into the page cache. They may not fit: measure with `cached_share`."""
    buffer = bytearray(_READ_BYTES)
    for file in files:
        with _opened(file) as fd:
            while os.readv(fd, [buffer]):
                pass


def cached_share(files: Iterable[Path]) -> float:
    """Return the share of the files' pages that are in the page cache, in [0, 1]."""
    cached = total = 0
    for file in files:
        with _opened(file) as fd:
            size_bytes = os.fstat(fd).st_size
            found = cached_bytes(fd, 0, size_bytes)
            cached += min(size_bytes, _resident(fd, size_bytes) if found is None else found)
            total += size_bytes
    return cached / total if total else 0.0


def _resident(fd: int, size_bytes: int) -> int:
    """Count cached bytes by mincore, for kernels before 6.5; right for writable files only."""
    if not size_bytes:
        return 0
    num_pages = -(-size_bytes // mmap.PAGESIZE)
    pages = (ctypes.c_ubyte * num_pages)()
    with mmap.mmap(fd, size_bytes, mmap.MAP_PRIVATE) as mapping:
        first = ctypes.c_char.from_buffer(mapping)
        address = ctypes.c_void_p(ctypes.addressof(first))
        result = ctypes.CDLL(None).mincore(address, ctypes.c_size_t(size_bytes), pages)
        del first  # else the mapping could not be closed
    if result != 0:
        raise OSError(f"mincore failed for {size_bytes} bytes")
    return sum(page & 1 for page in pages) * mmap.PAGESIZE


@contextmanager
def _opened(file: Path) -> Iterator[int]:
    fd = os.open(file, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)
