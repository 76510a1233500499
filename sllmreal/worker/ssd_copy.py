"""A copy on the SSD: a checkpoint as it was published, with holes for absent chunks.

    checkpoint/   index, small files, and partitions of their full length
    stored        a record for each chunk that is present, with its XXH3-128
    copy.json     the source of the copy, and how many of its bytes count as resident

A chunk is served only if it has its recorded hash, so that neither a crash nor a failing disk needs
an fsync to be noticed.
"""

import os
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import msgspec
import xxhash

from sllmreal.checkpoint.errors import StorageError
from sllmreal.checkpoint.layout import BLOCK_BYTES, Layout
from sllmreal.checkpoint.source import opened_checkpoint, read_layout
from sllmreal.loader.memory import buffer_at
from sllmreal.loader.plan import ChunkKey, ChunkRead
from sllmreal.loader.reading import ChunkReader, opened_reader
from sllmreal.worker.holes import punch

_RECORD = struct.Struct("<IQI16s")  # partition, number, length, XXH3-128


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The source of a copy. The first `resident_bytes`, in whole chunks, count as resident."""

    model: str
    source: str
    created_at_s: float
    identity: str
    size_bytes: int
    chunk_bytes: int
    resident_bytes: int


class SsdCopy:
    """The directory of a model. Many threads may read and store at once."""

    def __init__(self, path: Path, manifest: Manifest, layout: Layout) -> None:
        self.path = path
        self.manifest = manifest
        self.layout = layout
        self._lock = threading.Lock()
        self._digests = {
            key: digest
            for key, digest in _read_journal(path / "stored").items()
            if key.partition < len(layout.partitions) and self._size_bytes(key) > 0
        }

    @property
    def checkpoint(self) -> Path:
        """The directory that opens as a checkpoint; the bytes of absent chunks are zero."""
        return self.path / "checkpoint"

    def has(self, key: ChunkKey) -> bool:
        return key in self._digests

    def end_bytes(self, key: ChunkKey) -> int:
        """Return the bytes before the end of a chunk, counted partition by partition."""
        before = sum(part.size_bytes for part in self.layout.partitions[: key.partition])
        return before + key.number * self.manifest.chunk_bytes + self._size_bytes(key)

    def stored_bytes(self) -> int:
        """Return the bytes of all present chunks."""
        return sum(self._size_bytes(key) for key in self._digests)

    @contextmanager
    def opened(self) -> Iterator["OpenedCopy"]:
        """Open the files, to read and to store chunks. Raises StorageError where the disk fails."""
        with ExitStack() as stack:
            try:
                opened = stack.enter_context(opened_checkpoint(self.checkpoint))
                reader = stack.enter_context(opened_reader(opened))
                yield OpenedCopy(self, reader, stack)
            except OSError as error:
                raise StorageError(f"cannot read the copy in {self.path}: {error}") from error

    def set_manifest(self, manifest: Manifest) -> None:
        """Replace the manifest, atomically."""
        _write_atomically(self.path / "copy.json", msgspec.json.encode(manifest))
        self.manifest = manifest

    def count(self, resident_bytes: int) -> None:
        """Let the first `resident_bytes` count as resident, also after a restart."""
        if resident_bytes != self.manifest.resident_bytes:
            self.set_manifest(msgspec.structs.replace(self.manifest, resident_bytes=resident_bytes))

    def redeploy(self, source: str, created_at_s: float) -> None:
        """Note another deployment from a source with the same bytes."""
        manifest = msgspec.structs.replace(self.manifest, source=source, created_at_s=created_at_s)
        self.set_manifest(manifest)

    def changed_at_s(self) -> float:
        """Return the time of the last change of the manifest, by the file system's clock."""
        return (self.path / "copy.json").stat().st_mtime

    def trim(self, keep_bytes: int) -> None:
        """Keep the whole chunks among the first `keep_bytes`; free the disk space of the rest."""
        kept = {k: d for k, d in self._digests.items() if self.end_bytes(k) <= keep_bytes}
        gone = [key for key in self._digests if key not in kept]
        with self._lock:
            self._digests = kept
        if gone:
            records = (self._record(key, digest) for key, digest in kept.items())
            _write_atomically(self.path / "stored", b"".join(records))
            self._punch(gone)
        self.count(self.stored_bytes())

    def drop(self, key: ChunkKey) -> None:
        """Treat a damaged chunk as absent until it is stored again."""
        with self._lock:
            self._digests.pop(key, None)

    def digest(self, key: ChunkKey) -> bytes | None:
        return self._digests.get(key)

    def note(self, key: ChunkKey, digest: bytes, journal_fd: int) -> None:
        """Record a chunk that has been written."""
        with self._lock:
            os.write(journal_fd, self._record(key, digest))
            self._digests[key] = digest

    def _record(self, key: ChunkKey, digest: bytes) -> bytes:
        return _RECORD.pack(key.partition, key.number, self._size_bytes(key), digest)

    def _size_bytes(self, key: ChunkKey) -> int:
        chunk_bytes = self.manifest.chunk_bytes
        begin = key.number * chunk_bytes
        return min(chunk_bytes, self.layout.partitions[key.partition].size_bytes - begin)

    def _punch(self, keys: list[ChunkKey]) -> None:
        header_bytes = _headers(self.layout)
        for number, part in enumerate(self.layout.partitions):
            fd = os.open(self.checkpoint / part.file, os.O_RDWR | os.O_CLOEXEC)
            try:
                for key in keys:
                    if key.partition == number:
                        begin = key.number * self.manifest.chunk_bytes
                        end = begin + self._size_bytes(key)
                        punch(fd, max(begin, header_bytes[number]), end)
            finally:
                os.close(fd)


class OpenedCopy:
    """A copy's open files."""

    def __init__(self, copy: SsdCopy, reader: ChunkReader, stack: ExitStack) -> None:
        self._copy = copy
        self._reader = reader
        self._stack = stack
        self._lock = threading.Lock()
        self._writing: dict[tuple[int, bool], int] = {}
        self._journal: int | None = None

    def read_into(self, read: ChunkRead, address: int) -> bool:
        """Fill memory with a chunk. Return False if the chunk is absent or damaged."""
        expected = self._copy.digest(read.key)
        if expected is None:
            return False
        try:
            self._reader.read_into(read, address)
        except StorageError:
            self._copy.drop(read.key)
            return False
        if xxhash.xxh3_128_digest(buffer_at(address, read.size_bytes)) != expected:
            self._copy.drop(read.key)
            return False
        return True

    def store(self, read: ChunkRead, address: int) -> None:
        """Write a verified chunk. Raises StorageError if the disk fails."""
        data = buffer_at(address, read.size_bytes)
        digest = xxhash.xxh3_128_digest(data)
        whole_bytes = read.size_bytes - read.size_bytes % BLOCK_BYTES
        try:
            self._write(read, data[:whole_bytes], 0, direct=True)
            self._write(read, data[whole_bytes:], whole_bytes, direct=False)
            self._copy.note(read.key, digest, self._journal_fd())
        except OSError as error:
            raise StorageError(f"cannot write the SSD copy: {error}") from error

    def _write(self, read: ChunkRead, data: memoryview, at: int, *, direct: bool) -> None:
        fd = self._fd(read.key.partition, direct=direct)
        done = 0
        while done < len(data):
            done += os.pwrite(fd, data[done:], read.offset_bytes + at + done)

    def _fd(self, partition: int, *, direct: bool) -> int:
        with self._lock:
            fd = self._writing.get((partition, direct))
            if fd is None:
                path = self._copy.checkpoint / self._copy.layout.partitions[partition].file
                try:
                    fd = self._open(path, os.O_DIRECT if direct else 0)
                except OSError:  # a file system without direct I/O
                    fd = self._open(path, 0)
                self._writing[partition, direct] = fd
            return fd

    def _journal_fd(self) -> int:
        with self._lock:
            if self._journal is None:
                self._journal = self._open(self._copy.path / "stored", os.O_APPEND | os.O_CREAT)
            return self._journal

    def _open(self, path: Path, flags: int) -> int:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | flags, 0o644)
        self._stack.callback(os.close, fd)
        return fd


def open_copy(path: Path) -> SsdCopy:
    """Open the copy in a directory. Raises SllmError, OSError or msgspec's errors if it is bad."""
    manifest = msgspec.json.decode((path / "copy.json").read_bytes(), type=Manifest)
    return SsdCopy(path, manifest, _layout(path, manifest))


def begin_copy(path: Path, manifest: Manifest) -> SsdCopy:
    """Return the copy of a laid-out `checkpoint` directory that has no chunk yet."""
    copy = SsdCopy(path, manifest, _layout(path, manifest))
    copy.set_manifest(manifest)
    return copy


def _layout(path: Path, manifest: Manifest) -> Layout:
    # The identity of plain safetensors comes from the files of the source, not of the copy.
    return replace(read_layout(path / "checkpoint"), identity=manifest.identity)


def _headers(layout: Layout) -> list[int]:
    """Return where tensors begin in each partition: the bytes before are never freed."""
    begins = [part.size_bytes for part in layout.partitions]
    for tensor in layout.tensors:
        if not tensor.empty:
            begins[tensor.partition] = min(begins[tensor.partition], tensor.offset_bytes)
    return begins


def _read_journal(path: Path) -> dict[ChunkKey, bytes]:
    """Return the recorded chunks; cut off a torn last record."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return {}
    whole_bytes = len(raw) // _RECORD.size * _RECORD.size
    if whole_bytes != len(raw):
        os.truncate(path, whole_bytes)
    records = _RECORD.iter_unpack(raw[:whole_bytes])
    return {ChunkKey(partition, number): digest for partition, number, _, digest in records}


def _write_atomically(path: Path, content: bytes) -> None:
    partial = path.with_suffix(".partial")
    partial.write_bytes(content)
    partial.replace(path)
