"""Resumable copies of remote checkpoints: received chunks are stored on the SSD.

A journal in the staging directory lists the stored chunks. It is only a hint: a listed chunk is
read back and hashed before it is used.
"""

import os
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import xxhash

from sllmreal.checkpoint.errors import CorruptCheckpointError, StorageError
from sllmreal.checkpoint.layout import BLOCK_BYTES, HASH_BYTES, Layout
from sllmreal.checkpoint.lifetime import Lifetime
from sllmreal.loader.memory import buffer_at
from sllmreal.loader.plan import ChunkKey, ChunkRead
from sllmreal.loader.remote_storage import RemoteStorage
from sllmreal.loader.transfer import verify_chunk

JOURNAL_FILE = "stored"
_PLACE = struct.Struct("<IQI")  # partition, offset, length
_RECORD_BYTES = _PLACE.size + HASH_BYTES
_NO_HASH = bytes(HASH_BYTES)  # for layouts with hashes of their own


class RemoteReader:
    """A reader of remote storage that stores no copy."""

    def __init__(self, storage: RemoteStorage, layout: Layout) -> None:
        self._storage = storage
        self._layout = layout

    @property
    def keep(self) -> None:
        """None: no copy is stored."""
        return

    def read_into(self, read: ChunkRead, address: int) -> None:
        part = self._layout.partitions[read.key.partition]
        self._storage.read_into(part.file, read.offset_bytes, buffer_at(address, read.size_bytes))


@dataclass(frozen=True, slots=True)
class _Files:
    """Descriptors of each partition, for whole blocks and for other lengths, and of the journal."""

    direct: list[int]
    buffered: list[int]
    journal: int


class WriteThrough:
    """A reader that takes stored chunks from the SSD and stores those from remote storage."""

    def __init__(self, storage: RemoteStorage, layout: Layout, files: _Files) -> None:
        self._remote = RemoteReader(storage, layout)
        self._layout = layout
        self._files = files
        self._lock = threading.Lock()
        self._stored = _read_journal(files.journal)
        self._lifetime = Lifetime("the SSD copy")

    def close(self) -> None:
        """Wait for running calls and refuse further ones: they raise ClosedError."""
        self._lifetime.close()

    def read_into(self, read: ChunkRead, address: int) -> None:
        with self._lifetime.use():
            self._read(read, address)

    def keep(self, read: ChunkRead, address: int) -> None:
        """Store a verified chunk, unless it was read from the SSD. Raises StorageError."""
        with self._lifetime.use():
            self._store(read, address)

    def _read(self, read: ChunkRead, address: int) -> None:
        if _place(read) in self._stored and self._read_stored(read, address):
            return
        with self._lock:
            self._stored.pop(_place(read), None)
        self._remote.read_into(read, address)

    def _store(self, read: ChunkRead, address: int) -> None:
        place = _place(read)
        if place in self._stored:
            return
        data = buffer_at(address, read.size_bytes)
        digest = _NO_HASH if self._layout.chunk_bytes else xxhash.xxh3_128_digest(data)
        try:
            fd, done = self._fd(read), 0
            while done < len(data):
                done += os.pwrite(fd, data[done:], read.offset_bytes + done)
            with self._lock:
                os.write(self._files.journal, place + digest)
                self._stored[place] = digest
        except OSError as error:
            raise StorageError(f"writing the SSD copy: {error}") from error

    def missing(self, chunk_bytes: int) -> list[ChunkRead]:
        """Return the chunks of the whole checkpoint that are not stored."""
        return [
            read
            for read in _all_chunks(self._layout, chunk_bytes)
            if _place(read) not in self._stored
        ]

    def sync(self) -> None:
        """Make the stored chunks durable."""
        with self._lifetime.use():
            for fd in self._files.buffered:
                os.fsync(fd)

    def _fd(self, read: ChunkRead) -> int:
        whole = read.size_bytes % BLOCK_BYTES == 0
        files = self._files.direct if whole else self._files.buffered
        return files[read.key.partition]

    def _read_stored(self, read: ChunkRead, address: int) -> bool:
        """Read a stored chunk; return False if it is incomplete or differs from its hash."""
        data = buffer_at(address, read.size_bytes)
        try:
            if os.preadv(self._fd(read), [data], read.offset_bytes) != len(data):
                return False
            if self._layout.chunk_bytes is None:
                return xxhash.xxh3_128_digest(data) == self._stored[_place(read)]
            verify_chunk(self._layout, read, address)
        except (OSError, CorruptCheckpointError):
            return False
        return True


@contextmanager
def opened_copy(directory: Path, storage: RemoteStorage, layout: Layout) -> Iterator[WriteThrough]:
    """Open the files of a checkpoint's copy in `directory`; they are closed at the end."""
    with ExitStack() as stack:

        def opened(name: str, flags: int) -> int:
            flags |= os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            fd = os.open(directory / name, flags, 0o644)
            stack.callback(os.close, fd)
            return fd

        direct: list[int] = []
        buffered: list[int] = []
        for part in layout.partitions:
            buffered.append(opened(part.file, 0))
            os.ftruncate(buffered[-1], part.size_bytes)
            try:
                direct.append(opened(part.file, os.O_DIRECT))
            except OSError:  # a file system without direct I/O
                direct.append(buffered[-1])
        journal = opened(JOURNAL_FILE, os.O_APPEND)
        copy = WriteThrough(storage, layout, _Files(direct, buffered, journal))
        stack.callback(copy.close)  # before the descriptors are closed
        yield copy


def _place(read: ChunkRead) -> bytes:
    return _PLACE.pack(read.key.partition, read.offset_bytes, read.size_bytes)


def _all_chunks(layout: Layout, chunk_bytes: int) -> Iterator[ChunkRead]:
    for number, part in enumerate(layout.partitions):
        for chunk, begin in enumerate(range(0, part.size_bytes, chunk_bytes)):
            size_bytes = min(chunk_bytes, part.size_bytes - begin)
            yield ChunkRead(ChunkKey(number, chunk), begin, size_bytes)


def _read_journal(fd: int) -> dict[bytes, bytes]:
    """Return places and hashes that earlier attempts stored; a torn last record is cut off."""
    size_bytes = os.fstat(fd).st_size
    whole_bytes = size_bytes // _RECORD_BYTES * _RECORD_BYTES
    if whole_bytes != size_bytes:
        os.ftruncate(fd, whole_bytes)
    raw = os.pread(fd, whole_bytes, 0)
    records = [raw[at : at + _RECORD_BYTES] for at in range(0, len(raw), _RECORD_BYTES)]
    return {record[: _PLACE.size]: record[_PLACE.size :] for record in records}
