"""Loading from remote storage, written through to the SSD while it streams, resumed if cut off.

    remote -> memory -> verified -> SSD cache and tensors, each on its own threads.

The cache is a directory of checkpoints named by identity. What was stored before an interruption is
taken from the SSD the next time, after hashing it again; a complete copy is published atomically.
"""

import hashlib
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch

from sllmreal.checkpoint.errors import BadCheckpointError, CorruptCheckpointError, StorageError
from sllmreal.checkpoint.index import (
    ASSET_DIRECTORY,
    HEADER_BYTES,
    INDEX_FILE,
    MAX_BODY_BYTES,
    decode_index,
)
from sllmreal.checkpoint.layout import Layout
from sllmreal.checkpoint.staging import Staging, fsync_directory, staged, write_durably
from sllmreal.loader.load import Device, LoadRequest, chosen_devices, load_checkpoint, load_layout
from sllmreal.loader.memory import buffer_at
from sllmreal.loader.plan import ChunkRead
from sllmreal.loader.pool import ChunkPool
from sllmreal.loader.remote_storage import RemoteStorage
from sllmreal.loader.transfer import DEFAULT_OPTIONS, LoadOptions, verify_chunk

_JOURNAL_FILE = "stored"
_RECORD = struct.Struct("<IQI")  # partition, offset, length: stored, to be verified when read


def load_remote(
    storage: RemoteStorage,
    cache: Path,
    device: Device = "cpu",
    *,
    pool: ChunkPool | None = None,
    options: LoadOptions = DEFAULT_OPTIONS,
) -> dict[str, torch.Tensor]:
    """All tensors of the checkpoint of our format in `storage`, which `cache` then holds a copy of.

    A copy in the cache is loaded instead. Raises RemoteError when the storage fails for good,
    CorruptCheckpointError when it serves a wrong byte; what was right stays in the cache.
    """
    index = fetched_index(storage)
    layout = decode_index(index, cache)
    local = Path(cache) / layout.identity
    if _exists(local):
        return load_checkpoint(local, device, pool=pool, options=options)
    tensors: dict[str, torch.Tensor] = {}
    request = LoadRequest(chosen_devices(device), pool, None, options)
    with staged(local, replace=False) as stage, _opened_cache(stage, layout) as files:
        reader = _WriteThrough(storage, layout, files, options)
        load_layout(
            layout, reader, request, lambda entry, tensor: tensors.update({entry.name: tensor})
        )
        if reader.complete():
            reader.sync()
            _publish(stage, storage, layout, index)
    return {entry.name: tensors[entry.name] for entry in layout.tensors}


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise StorageError(f"looking for {path}: {error}") from error


def fetched_index(storage: RemoteStorage) -> bytes:
    """The bytes of the index. Raises BadCheckpointError when it is implausibly long."""
    size_bytes = storage.object_bytes(INDEX_FILE)
    if not HEADER_BYTES < size_bytes <= HEADER_BYTES + MAX_BODY_BYTES:
        raise BadCheckpointError(f"{INDEX_FILE} of {size_bytes} bytes in the remote storage")
    index = bytearray(size_bytes)
    storage.read_into(INDEX_FILE, 0, memoryview(index))
    return bytes(index)


class _CacheFiles:
    """Descriptors of the staged copy: for data, and for the journal of what is stored."""

    def __init__(self, data: list[int], journal: int) -> None:
        self.data = data
        self.journal = journal


@contextmanager
def _opened_cache(stage: Staging, layout: Layout) -> Iterator[_CacheFiles]:
    with ExitStack() as stack:

        def opened(name: str, flags: int) -> int:
            flags |= os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            fd = os.open(stage.path / name, flags, 0o644)
            stack.callback(os.close, fd)
            return fd

        data = []
        for part in layout.partitions:
            try:
                fd = opened(part.file, os.O_DIRECT)
            except OSError:
                fd = opened(part.file, 0)
            os.ftruncate(fd, part.size_bytes)
            data.append(fd)
        yield _CacheFiles(data, opened(_JOURNAL_FILE, os.O_APPEND))


class _WriteThrough:
    """Reads from the SSD what is stored there, the rest from remote storage, and stores that."""

    def __init__(
        self, storage: RemoteStorage, layout: Layout, files: _CacheFiles, options: LoadOptions
    ) -> None:
        self._storage = storage
        self._layout = layout
        self._files = files
        self._lock = threading.Lock()
        self._stored = _read_journal(files.journal)

    def read_into(self, read: ChunkRead, address: int) -> None:
        if self._record(read) in self._stored and self._read_stored(read, address):
            return
        with self._lock:
            self._stored.discard(self._record(read))
        part = self._layout.partitions[read.key.partition]
        target = buffer_at(address, read.size_bytes)
        self._storage.read_into(part.file, read.offset_bytes, target)

    def keep(self, read: ChunkRead, address: int) -> None:
        """Store a verified chunk, unless it came from there."""
        record = self._record(read)
        if record in self._stored:
            return
        fd = self._files.data[read.key.partition]
        data = buffer_at(address, read.size_bytes)
        done = 0
        try:
            while done < len(data):
                done += os.pwrite(fd, data[done:], read.offset_bytes + done)
            with self._lock:
                os.write(self._files.journal, record)
                self._stored.add(record)
        except OSError as error:
            raise StorageError(f"writing the SSD copy: {error}") from error

    def complete(self) -> bool:
        """Whether every byte of the checkpoint is stored."""
        stored = sum(int(_RECORD.unpack(record)[2]) for record in self._stored)
        return stored == self._layout.size_bytes

    def sync(self) -> None:
        for fd in self._files.data:
            os.fsync(fd)

    def _read_stored(self, read: ChunkRead, address: int) -> bool:
        """True if the SSD has the chunk, whole and right."""
        data = buffer_at(address, read.size_bytes)
        fd = self._files.data[read.key.partition]
        try:
            if os.preadv(fd, [data], read.offset_bytes) != len(data):
                return False
            verify_chunk(self._layout, read, address)
        except (OSError, CorruptCheckpointError):
            return False
        return True

    @staticmethod
    def _record(read: ChunkRead) -> bytes:
        return _RECORD.pack(read.key.partition, read.offset_bytes, read.size_bytes)


def _read_journal(fd: int) -> set[bytes]:
    """What earlier attempts stored; a torn last record is cut off."""
    size_bytes = os.fstat(fd).st_size
    whole_bytes = size_bytes // _RECORD.size * _RECORD.size
    if whole_bytes != size_bytes:
        os.ftruncate(fd, whole_bytes)
    raw = os.pread(fd, whole_bytes, 0)
    return {raw[at : at + _RECORD.size] for at in range(0, len(raw), _RECORD.size)}


def _publish(stage: Staging, storage: RemoteStorage, layout: Layout, index: bytes) -> None:
    """Fetch the assets, then make the complete copy a checkpoint of the cache."""
    if layout.assets:
        directory = stage.path / ASSET_DIRECTORY
        directory.mkdir(exist_ok=True)
        for asset in layout.assets:
            content = bytearray(asset.size_bytes)
            storage.read_into(f"{ASSET_DIRECTORY}/{asset.file}", 0, memoryview(content))
            if hashlib.sha256(content).hexdigest() != asset.sha256:
                raise CorruptCheckpointError(f"asset {asset.file} differs from its SHA-256")
            write_durably(directory / asset.file, bytes(content))
        fsync_directory(directory)
    write_durably(stage.path / INDEX_FILE, index)
    (stage.path / _JOURNAL_FILE).unlink()
    stage.publish()
