"""Memory on huge pages that is freed with the last tensor in it.

Huge pages matter because page faults can cost more time than the disk. All mappings are `mmap`
objects: a tensor made from one keeps it alive, and the interpreter unmaps it afterwards. Parts of a
mapping are remapped in place, so that scattered chunks appear in one piece.
"""

import ctypes
import mmap
import os
from dataclasses import dataclass

from sllmreal.checkpoint.errors import StorageError
from sllmreal.checkpoint.layout import align_up

HUGE_PAGE_BYTES = 2 << 20
_MADV_POPULATE_WRITE = 23  # Linux 5.14; not in Python's mmap
_MADV_COLLAPSE = 25  # Linux 6.1
_MAP_FIXED = 0x10
_MAP_NORESERVE = 0x4000


@dataclass(frozen=True, slots=True)
class Image:
    """Address space of `size_bytes` from `address`, which is a multiple of the huge page size.

    `offset_bytes` is the offset of `address` in `mapping`. The memory lives as long as `mapping`.
    """

    mapping: mmap.mmap
    offset_bytes: int
    address: int
    size_bytes: int


def reserve_image(size_bytes: int) -> Image:
    """Reserve address space; memory is allocated when it is touched, on huge pages if possible.

    Raises StorageError.
    """
    room_bytes = align_up(max(size_bytes, 1), HUGE_PAGE_BYTES) + HUGE_PAGE_BYTES
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
    try:
        mapping = mmap.mmap(-1, room_bytes, flags)
    except OSError as error:
        raise StorageError(
            f"cannot reserve {size_bytes} bytes of address space: {error}"
        ) from error
    begin = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
    address = align_up(begin, HUGE_PAGE_BYTES)
    advise_huge(mapping)
    return Image(mapping, address - begin, address, size_bytes)


def advise_huge(mapping: mmap.mmap) -> None:
    """Request huge pages; a kernel built without them refuses, and small pages work too."""
    try:
        mapping.madvise(mmap.MADV_HUGEPAGE)
    except OSError:
        return


def map_file(address: int, fd: int, offset_bytes: int, size_bytes: int, *, flags: int) -> None:
    """Map `size_bytes` of a file at `address`, inside an image that the caller holds.

    Raises StorageError.
    """
    libc = _libc()
    libc.mmap.restype = ctypes.c_void_p
    result = libc.mmap(
        ctypes.c_void_p(address),
        ctypes.c_size_t(size_bytes),
        mmap.PROT_READ | mmap.PROT_WRITE,
        flags | _MAP_FIXED,
        fd,
        ctypes.c_long(offset_bytes),
    )
    if result != address:
        code = ctypes.get_errno()
        raise StorageError(f"cannot map {size_bytes} bytes of the pool: {os.strerror(code)}")


def populate(address: int, size_bytes: int) -> None:
    """Fault in all pages for writing. Raises StorageError if there is not enough memory."""
    code = _advise(address, size_bytes, _MADV_POPULATE_WRITE)
    if code == 22:  # EINVAL: a kernel before 5.14; touch one byte per page instead
        for offset in range(0, size_bytes, mmap.PAGESIZE):
            ctypes.c_char.from_address(address + offset).value = b"\0"
    elif code:
        raise StorageError(f"no memory for {size_bytes} bytes: {os.strerror(code)}")


def collapse(address: int, size_bytes: int) -> bool:
    """Gather populated pages into huge pages; return whether the kernel did so."""
    return _advise(address, size_bytes, _MADV_COLLAPSE) == 0


def advise_huge_range(address: int, size_bytes: int) -> None:
    """Request huge pages for a part of a mapping, like `advise_huge`."""
    _advise(address, size_bytes, mmap.MADV_HUGEPAGE)


def buffer_at(address: int, size_bytes: int) -> memoryview:
    """Return writable bytes at an address. The caller must keep the memory mapped meanwhile."""
    return memoryview((ctypes.c_char * size_bytes).from_address(address)).cast("B")


def _advise(address: int, size_bytes: int, advice: int) -> int:
    """Call madvise; return 0 or the error's number."""
    result = _libc().madvise(ctypes.c_void_p(address), ctypes.c_size_t(size_bytes), advice)
    return 0 if result == 0 else ctypes.get_errno()


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
