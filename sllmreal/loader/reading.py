"""Reading chunks from files: direct I/O into place, the page cache only where it has the bytes.

Direct reads skip a copy and do not evict what others cached. A range that is already cached is
copied from there instead, several times faster than any disk.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from sllmreal.checkpoint.errors import StorageError
from sllmreal.checkpoint.layout import BLOCK_BYTES, align_up
from sllmreal.checkpoint.source import OpenedCheckpoint
from sllmreal.loader.memory import buffer_at
from sllmreal.loader.page_cache import cached_bytes
from sllmreal.loader.plan import ChunkRead


class ChunkReader:
    """Reads of one open checkpoint's partitions, from any number of threads."""

    def __init__(self, names: list[str], direct: list[int | None], buffered: list[int]) -> None:
        self._names = names
        self._direct = direct
        self._buffered = buffered

    @property
    def keep(self) -> None:
        """Files are where they belong already."""
        return

    def read_into(self, read: ChunkRead, address: int) -> None:
        """Fill memory at `address` (block-aligned, with room up to a whole block).

        Raises StorageError when the bytes cannot be had or the file is shorter than it was.
        """
        number = read.key.partition
        direct_fd = self._direct[number]
        if direct_fd is not None and not self._cached(number, read):
            try:
                done = _read_direct(direct_fd, read, address)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise self._fault(read, error) from error
                self._direct[number] = None  # the file system takes the flag but not the read
                done = 0
        else:
            done = 0
        # Buffered: all of it, or what a direct read left at an unaligned end.
        try:
            self._read_buffered(read, address, done)
        except OSError as error:
            raise self._fault(read, error) from error

    def _read_buffered(self, read: ChunkRead, address: int, done: int) -> None:
        fd = self._buffered[read.key.partition]
        while done < read.size_bytes:
            rest = buffer_at(address + done, read.size_bytes - done)
            got = os.preadv(fd, [rest], read.offset_bytes + done)
            if got == 0:
                raise StorageError(
                    f"{self._names[read.key.partition]} ended at {read.offset_bytes + done}: "
                    "it was truncated while it was read"
                )
            done += got

    def _cached(self, number: int, read: ChunkRead) -> bool:
        """Whether most of the chunk lies in the page cache; False where the kernel cannot say."""
        cached = cached_bytes(self._buffered[number], read.offset_bytes, read.size_bytes)
        return cached is not None and cached * 2 > read.size_bytes

    def _fault(self, read: ChunkRead, error: OSError) -> StorageError:
        name = self._names[read.key.partition]
        return StorageError(f"reading {name} at {read.offset_bytes}: {error.strerror}")


def _read_direct(fd: int, read: ChunkRead, address: int) -> int:
    """Bytes read by direct I/O; stops short at an unaligned end of the file."""
    done = 0
    whole_bytes = align_up(read.size_bytes, BLOCK_BYTES)
    while done < read.size_bytes:
        rest = buffer_at(address + done, whole_bytes - done)
        got = os.preadv(fd, [rest], read.offset_bytes + done)
        done += got
        if got == 0 or done % BLOCK_BYTES:
            break
    return min(done, read.size_bytes)


@contextmanager
def opened_reader(opened: OpenedCheckpoint) -> Iterator[ChunkReader]:
    """A reader over all partitions, its descriptors closed at the end."""
    with ExitStack() as stack:
        direct: list[int | None] = []
        buffered: list[int] = []
        for number in range(len(opened.layout.partitions)):
            buffered.append(stack.enter_context(opened.opened_partition(number)).fd)
            try:
                file = stack.enter_context(opened.opened_partition(number, direct=True))
                direct.append(file.fd)
            except OSError:  # the file system has no direct I/O, as tmpfs once had not
                direct.append(None)
        names = [part.file for part in opened.layout.partitions]
        yield ChunkReader(names, direct, buffered)
