"""Reads of chunks from files: direct I/O into place, or from the page cache if cached there.

Direct reads save a copy and do not displace other files from the page cache. A range that is
already cached is copied from there, several times faster than any disk.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from sllmreal.checkpoint.errors import StorageError
from sllmreal.checkpoint.layout import BLOCK_BYTES, align_up
from sllmreal.checkpoint.lifetime import Lifetime
from sllmreal.checkpoint.source import OpenedCheckpoint
from sllmreal.loader.memory import buffer_at
from sllmreal.loader.page_cache import cached_bytes
from sllmreal.loader.plan import ChunkRead


class ChunkReader:
    """A reader of an open checkpoint's partitions, for any number of threads."""

    def __init__(self, names: list[str], direct: list[int | None], buffered: list[int]) -> None:
        self._names = names
        self._direct = direct
        self._buffered = buffered
        self._lifetime = Lifetime("the reader")

    def close(self) -> None:
        """Wait for running reads and refuse further ones: they raise ClosedError."""
        self._lifetime.close()

    @property
    def keep(self) -> None:
        """None: files on this disk are not stored again."""
        return

    def read_into(self, read: ChunkRead, address: int) -> None:
        """Read a chunk to `address`, which is block-aligned and has room up to a whole block.

        Raises StorageError if the read fails or the file was truncated, ClosedError after `close`.
        """
        with self._lifetime.use():
            self._read(read, address)

    def _read(self, read: ChunkRead, address: int) -> None:
        number = read.key.partition
        direct_fd = self._direct[number]
        if direct_fd is not None and not self._cached(number, read):
            try:
                done = _read_direct(direct_fd, read, address)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise self._fault(read, error) from error
                self._direct[number] = None  # the file system accepts the flag but not the read
                done = 0
        else:
            done = 0
        # Buffered: the whole chunk, or the unaligned end that a direct read left.
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
        """Return True if most of the chunk is in the page cache; False if that is unknown."""
        cached = cached_bytes(self._buffered[number], read.offset_bytes, read.size_bytes)
        return cached is not None and cached * 2 > read.size_bytes

    def _fault(self, read: ChunkRead, error: OSError) -> StorageError:
        name = self._names[read.key.partition]
        return StorageError(f"reading {name} at {read.offset_bytes}: {error.strerror}")


def _read_direct(fd: int, read: ChunkRead, address: int) -> int:
    """Read by direct I/O up to an unaligned end of the file; return the bytes read."""
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
    """Open a reader of all partitions; its descriptors are closed at the end."""
    with ExitStack() as stack:
        direct: list[int | None] = []
        buffered: list[int] = []
        for number in range(len(opened.layout.partitions)):
            buffered.append(stack.enter_context(opened.opened_partition(number)).fd)
            try:
                file = stack.enter_context(opened.opened_partition(number, direct=True))
                direct.append(file.fd)
            except OSError:  # the file system has no direct I/O, like tmpfs before Linux 6.6
                direct.append(None)
        names = [part.file for part in opened.layout.partitions]
        reader = ChunkReader(names, direct, buffered)
        stack.callback(reader.close)  # before the descriptors are closed
        yield reader
