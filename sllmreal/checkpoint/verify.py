"""Verification of a whole checkpoint: one read, every hash checked."""

import hashlib
import mmap
import os
from dataclasses import dataclass
from pathlib import Path

from sllmreal.checkpoint.assets import read_asset
from sllmreal.checkpoint.errors import BadCheckpointError, CorruptCheckpointError, StorageError
from sllmreal.checkpoint.layout import HASH_BYTES, Layout
from sllmreal.checkpoint.opening import OpenedFile
from sllmreal.checkpoint.source import OpenedCheckpoint, opened_checkpoint
from sllmreal.checkpoint.writer import ChunkDigest, Progress, chunk_digest


@dataclass(frozen=True, slots=True)
class Verified:
    """The checkpoint that was verified, and the amount of data."""

    layout: Layout
    num_bytes: int
    num_chunks: int


def verify(path: Path, progress: Progress | None = None) -> Verified:
    """Check layout, every chunk's hash, every partition's SHA-256 and every asset at `path`.

    Raises CorruptCheckpointError that names the first wrong chunk, BadCheckpointError for a format
    without hashes. Uses memory for one chunk.
    """
    with opened_checkpoint(Path(path)) as opened:
        layout = opened.layout
        if layout.chunk_bytes is None:
            raise BadCheckpointError(f"{path} has no hashes to verify: convert it first")
        done_bytes = 0
        num_chunks = 0
        for number, part in enumerate(layout.partitions):
            num_chunks += _verify_partition(opened, number, progress, done_bytes)
            done_bytes += part.size_bytes
        for asset in layout.assets:
            read_asset(layout, asset.file)
        return Verified(layout, done_bytes, num_chunks)


def _verify_partition(
    opened: OpenedCheckpoint, number: int, progress: Progress | None, done_bytes: int
) -> int:
    layout = opened.layout
    part = layout.partitions[number]
    assert layout.chunk_bytes is not None
    whole = hashlib.sha256()
    buffer = memoryview(mmap.mmap(-1, layout.chunk_bytes))
    with opened.opened_partition(number) as file:
        for chunk, begin in enumerate(range(0, part.size_bytes, layout.chunk_bytes)):
            data = buffer[: min(layout.chunk_bytes, part.size_bytes - begin)]
            digest = _read_digest(file, data, begin, part.file)
            if digest.xxh3 != part.chunk_hashes[HASH_BYTES * chunk : HASH_BYTES * (chunk + 1)]:
                raise CorruptCheckpointError(f"{part.file}: chunk {chunk} differs from its hash")
            whole.update(digest.sha256)
            if progress is not None:
                progress(done_bytes + begin + len(data), layout.size_bytes)
    if whole.hexdigest() != part.sha256:
        raise CorruptCheckpointError(f"{part.file} differs from its SHA-256")
    return len(part.chunk_hashes) // HASH_BYTES


def _read_digest(file: OpenedFile, data: memoryview, begin: int, name: str) -> ChunkDigest:
    done = 0
    while done < len(data):
        try:
            got = os.preadv(file.fd, [data[done:]], begin + done)
        except OSError as error:
            raise StorageError(f"reading {name}: {error}") from error
        if got == 0:
            raise StorageError(f"{name} ended early: it was changed while it was read")
        done += got
    os.posix_fadvise(file.fd, begin, len(data), os.POSIX_FADV_DONTNEED)
    return chunk_digest(data)
