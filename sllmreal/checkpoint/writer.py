"""The resumable writer of partitions: chunk by chunk, with memory for a few chunks only.

A journal in the staging directory records the chunks with durable bytes; the next conversion of
the same source hashes those again and keeps them. Chunks of zeros are left as holes.
"""

import errno
import hashlib
import mmap
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import xxhash

from sllmreal.checkpoint.arrange import Arrangement, Piece
from sllmreal.checkpoint.layout import Layout, Partition
from sllmreal.checkpoint.staging import empty_directory
from sllmreal.checkpoint.tensor_source import TensorSource

JOURNAL_FILE = "journal"
_RECORD = struct.Struct("<II16s32s")  # partition, chunk, XXH3-128, SHA-256
_CHUNKS_PER_SYNC = 64  # at most 256 MiB are written again after a crash

Progress = Callable[[int, int], None]
"""A callback with (bytes done, bytes in all), called after every chunk."""


@dataclass(frozen=True, slots=True)
class ChunkDigest:
    """Both digests of a chunk's bytes."""

    xxh3: bytes
    sha256: bytes


def plan_digest(arrangement: Arrangement, fingerprint: str) -> str:
    """Return a digest of a conversion's output: only a journal of the same digest is used."""
    layout = arrangement.layout
    return hashlib.sha256(
        repr((fingerprint, layout.chunk_bytes, layout.partitions, layout.tensors)).encode()
    ).hexdigest()


def write_partitions(
    arrangement: Arrangement, source: TensorSource, staging: Path, progress: Progress | None
) -> Layout:
    """Write all partitions durably into `staging` and return the layout with its hashes.

    Raises OSError if a disk fails, and the errors of the source.
    """
    plan = plan_digest(arrangement, source.fingerprint)
    known = _read_journal(staging / JOURNAL_FILE, plan) if source.fingerprint else {}
    layout = arrangement.layout
    done_bytes = 0
    partitions = []
    if not known:
        empty_directory(staging)
    with _journal(staging / JOURNAL_FILE, plan) as journal_fd:
        for number, part in enumerate(layout.partitions):
            writer = _PartitionWriter(
                staging=staging,
                arrangement=arrangement,
                number=number,
                source=source,
                journal_fd=journal_fd,
            )
            digests = []
            for chunk, digest in enumerate(writer.chunks(known)):
                digests.append(digest)
                if progress is not None:
                    size_bytes = min(part.size_bytes, (chunk + 1) * writer.chunk_bytes)
                    progress(done_bytes + size_bytes, layout.size_bytes)
            done_bytes += part.size_bytes
            partitions.append(hashed_partition(part, digests))
    return replace(layout, partitions=tuple(partitions))


def hashed_partition(part: Partition, digests: Sequence[ChunkDigest]) -> Partition:
    """Return the partition with the hashes of its chunks; `digests` are in order."""
    return replace(
        part,
        chunk_hashes=b"".join(digest.xxh3 for digest in digests),
        sha256=hashlib.sha256(b"".join(digest.sha256 for digest in digests)).hexdigest(),
    )


def chunk_digest(data: memoryview) -> ChunkDigest:
    """Compute both digests of a chunk."""
    return ChunkDigest(xxhash.xxh3_128_digest(data), hashlib.sha256(data).digest())


class _PartitionWriter:
    """The writer of one partition file."""

    def __init__(
        self,
        staging: Path,
        arrangement: Arrangement,
        number: int,
        source: TensorSource,
        journal_fd: int,
    ) -> None:
        assert arrangement.layout.chunk_bytes is not None
        self.chunk_bytes = arrangement.layout.chunk_bytes
        self._number = number
        self._part = arrangement.layout.partitions[number]
        self._pieces = arrangement.pieces[number]
        self._path = staging / self._part.file
        self._source = source
        self._journal_fd = journal_fd
        self._zeros = memoryview(bytes(self.chunk_bytes))
        self._zero_digests: dict[int, ChunkDigest] = {}
        self._unsynced: list[bytes] = []

    def chunks(self, known: dict[tuple[int, int], ChunkDigest]) -> Iterator[ChunkDigest]:
        """Write every chunk that is not in place; yield the digests of all chunks in order."""
        size_bytes = self._part.size_bytes
        first_piece = 0
        buffer = memoryview(mmap.mmap(-1, self.chunk_bytes))  # of whole pages, for direct I/O
        with _direct_file(self._path, size_bytes) as fd:
            for chunk, begin in enumerate(range(0, size_bytes, self.chunk_bytes)):
                data = buffer[: min(self.chunk_bytes, size_bytes - begin)]
                while _end(self._pieces[first_piece]) <= begin and first_piece + 1 < len(
                    self._pieces
                ):
                    first_piece += 1
                digest = known.get((self._number, chunk))
                if digest is None or not _in_place(fd, data, begin, digest):
                    self._fill(data, begin, first_piece)
                    digest = self._written(fd, data, begin)
                    self._record(fd, chunk, digest)
                yield digest
            self._sync(fd)
            os.fsync(fd)

    def _fill(self, data: memoryview, begin: int, first_piece: int) -> None:
        data[:] = self._zeros[: len(data)]
        end = begin + len(data)
        for piece in self._pieces[first_piece:]:
            if piece.offset_bytes >= end:
                break
            low = max(begin, piece.offset_bytes)
            high = min(end, _end(piece))
            if low < high:
                offset = piece.source_offset_bytes + low - piece.offset_bytes
                self._source.read_into(piece.storage, offset, data[low - begin : high - begin])

    def _written(self, fd: int, data: memoryview, begin: int) -> ChunkDigest:
        if not data[0] and not np.frombuffer(data, np.uint64).any():
            _punch(fd, begin, len(data))
            if len(data) not in self._zero_digests:
                self._zero_digests[len(data)] = chunk_digest(data)
            return self._zero_digests[len(data)]
        done = 0
        while done < len(data):
            done += os.pwrite(fd, data[done:], begin + done)
        return chunk_digest(data)

    def _record(self, fd: int, chunk: int, digest: ChunkDigest) -> None:
        self._unsynced.append(_RECORD.pack(self._number, chunk, digest.xxh3, digest.sha256))
        if len(self._unsynced) >= _CHUNKS_PER_SYNC:
            self._sync(fd)

    def _sync(self, fd: int) -> None:
        os.fdatasync(fd)  # the bytes first, then the journal entry about them
        os.write(self._journal_fd, b"".join(self._unsynced))
        self._unsynced.clear()


def _end(piece: Piece) -> int:
    return piece.offset_bytes + piece.size_bytes


def _in_place(fd: int, data: memoryview, begin: int, digest: ChunkDigest) -> bool:
    """Return True if the file has the chunk of that digest; `data` is overwritten."""
    return os.preadv(fd, [data], begin) == len(data) and chunk_digest(data) == digest


def _punch(fd: int, begin: int, size_bytes: int) -> None:
    """Leave a hole; write zeros if an earlier attempt wrote other bytes there."""
    try:
        holds_data = os.lseek(fd, begin, os.SEEK_DATA) < begin + size_bytes
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        holds_data = False
    if holds_data:
        zeros = memoryview(mmap.mmap(-1, size_bytes))
        while zeros:
            written = os.pwrite(fd, zeros, begin)
            begin += written
            zeros = zeros[written:]


@contextmanager
def _direct_file(path: Path, size_bytes: int) -> Iterator[int]:
    """Open the file of a partition at its final length, for direct I/O if available."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        fd = os.open(path, flags | os.O_DIRECT, 0o644)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        fd = os.open(path, flags, 0o644)
    try:
        os.ftruncate(fd, size_bytes)
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _journal(path: Path, plan: str) -> Iterator[int]:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        size_bytes = os.fstat(fd).st_size
        if size_bytes == 0:
            os.write(fd, plan.encode())
        elif (torn_bytes := (size_bytes - len(plan)) % _RECORD.size) != 0:
            os.ftruncate(fd, size_bytes - torn_bytes)
        yield fd
    finally:
        os.close(fd)


def _read_journal(path: Path, plan: str) -> dict[tuple[int, int], ChunkDigest]:
    """Return the chunks recorded by an earlier attempt; none if its plan was another."""
    try:
        raw = path.read_bytes()
    except OSError:
        return {}
    if raw[:64] != plan.encode():
        return {}
    known = {}
    for offset in range(64, len(raw) - _RECORD.size + 1, _RECORD.size):
        partition, chunk, xxh3, sha256 = _RECORD.unpack_from(raw, offset)
        known[partition, chunk] = ChunkDigest(xxh3, sha256)
    return known
