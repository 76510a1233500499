"""Memory that is freed with the last tensor in it, on huge pages: page faults cost more than disks.

All mappings are `mmap` objects: a tensor made from one keeps it alive, and the interpreter unmaps
it afterwards. Parts of such a mapping are remapped in place to show scattered chunks in one piece.
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
    """`size_bytes` of address space from `address`, which is on a huge page's boundary.

    `offset_bytes` is where `address` lies in `mapping`, whose life is the memory's life.
    """

    mapping: mmap.mmap
    offset_bytes: int
    address: int
    size_bytes: int


def reserve_image(size_bytes: int) -> Image:
    """Address space that takes memory only where it is touched, huge pages where there are any."""
    room_bytes = align_up(max(size_bytes, 1), HUGE_PAGE_BYTES) + HUGE_PAGE_BYTES
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
    try:
        mapping = mmap.mmap(-1, room_bytes, flags)
    except OSError as error:
        raise StorageError(f"no address space for {size_bytes} bytes: {error}") from error
    begin = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
    address = align_up(begin, HUGE_PAGE_BYTES)
    advise_huge(mapping)
    return Image(mapping, address - begin, address, size_bytes)


def advise_huge(mapping: mmap.mmap) -> None:
    """Ask for huge pages; a kernel built without them says no, and small pages work too."""
    try:
        mapping.madvise(mmap.MADV_HUGEPAGE)
    except OSError:
        return


def map_file(address: int, fd: int, offset_bytes: int, size_bytes: int, *, flags: int) -> None:
    """Show `size_bytes` of a file at `address`, inside an image that the caller owns."""
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
        raise StorageError(f"mapping {size_bytes} bytes of the pool: {os.strerror(code)}")


def populate(address: int, size_bytes: int) -> None:
    """Fault all pages in now, for writing. Raises StorageError when memory does not suffice."""
    code = _advise(address, size_bytes, _MADV_POPULATE_WRITE)
    if code == 22:  # EINVAL: a kernel before 5.14; touch one byte per page instead
        for offset in range(0, size_bytes, mmap.PAGESIZE):
            ctypes.c_char.from_address(address + offset).value = b"\0"
    elif code:
        raise StorageError(f"no memory for {size_bytes} bytes: {os.strerror(code)}")


def collapse(address: int, size_bytes: int) -> bool:
    """Gather populated pages into huge ones, whatever the system's default; True if it did."""
    return _advise(address, size_bytes, _MADV_COLLAPSE) == 0


def advise_huge_range(address: int, size_bytes: int) -> None:
    """As `advise_huge`, for a part of a mapping."""
    _advise(address, size_bytes, mmap.MADV_HUGEPAGE)


def buffer_at(address: int, size_bytes: int) -> memoryview:
    """Writable bytes at an address; the caller keeps the mapping alive meanwhile."""
    return memoryview((ctypes.c_char * size_bytes).from_address(address)).cast("B")


def _advise(address: int, size_bytes: int, advice: int) -> int:
    """madvise: 0, or the error's number."""
    result = _libc().madvise(ctypes.c_void_p(address), ctypes.c_size_t(size_bytes), advice)
    return 0 if result == 0 else ctypes.get_errno()


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
