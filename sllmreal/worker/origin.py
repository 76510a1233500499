"""Where a model comes from in the first place: a directory on this machine, or a storage service.

From there come its layout, its small files and the bytes of its chunks; this is the REMOTE tier.
"""

import hashlib
import os
import shutil
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from sllmreal.checkpoint.assets import asset_files
from sllmreal.checkpoint.errors import CorruptCheckpointError
from sllmreal.checkpoint.index import ASSET_DIRECTORY, INDEX_FILE, decode_index
from sllmreal.checkpoint.layout import Layout
from sllmreal.checkpoint.opening import read_exactly
from sllmreal.checkpoint.shards import SHARD_INDEXES
from sllmreal.checkpoint.source import OpenedCheckpoint, opened_checkpoint
from sllmreal.checkpoint.staging import write_durably
from sllmreal.loader.memory import buffer_at
from sllmreal.loader.plan import ChunkRead
from sllmreal.loader.reading import opened_reader
from sllmreal.loader.remote import fetched_index
from sllmreal.loader.remote_storage import RemoteStorage, remote_storage

_HEADER_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class Origin:
    """An open origin. `read_into` fills memory at an address with a chunk, from many threads.

    `write_frame` makes a directory a checkpoint of the same layout whose tensor bytes are holes.
    """

    layout: Layout
    read_into: Callable[[ChunkRead, int], None]
    write_frame: Callable[[Path], None]


@contextmanager
def opened_origin(source: str) -> Iterator[Origin]:
    """The checkpoint at a path or at an `http://`, `https://` or `s3://` URL.

    Raises BadCheckpointError where there is none, StorageError or RemoteError where it cannot be
    read. From a URL only the format of SPEC.md is read.
    """
    if urlsplit(source).scheme in ("http", "https", "s3"):
        with remote_storage(source) as storage:
            index = fetched_index(storage)
            layout = decode_index(index, Path(source))
            yield Origin(
                layout,
                lambda read, address: _fetch(storage, layout, read, address),
                lambda target: _write_fetched_frame(storage, layout, index, target),
            )
    else:
        with opened_checkpoint(Path(source)) as opened, opened_reader(opened) as reader:
            yield Origin(
                opened.layout,
                reader.read_into,
                lambda target: _write_local_frame(opened, Path(source), target),
            )


def _fetch(storage: RemoteStorage, layout: Layout, read: ChunkRead, address: int) -> None:
    file = layout.partitions[read.key.partition].file
    storage.read_into(file, read.offset_bytes, buffer_at(address, read.size_bytes))


def _write_fetched_frame(
    storage: RemoteStorage, layout: Layout, index: bytes, target: Path
) -> None:
    write_durably(target / INDEX_FILE, index)
    if layout.assets:
        (target / ASSET_DIRECTORY).mkdir()
    for asset in layout.assets:
        content = bytearray(asset.size_bytes)
        storage.read_into(f"{ASSET_DIRECTORY}/{asset.file}", 0, memoryview(content))
        if hashlib.sha256(content).hexdigest() != asset.sha256:
            raise CorruptCheckpointError(f"asset {asset.file} differs from its SHA-256")
        write_durably(target / ASSET_DIRECTORY / asset.file, bytes(content))
    _write_holes(layout, target)


def _write_local_frame(opened: OpenedCheckpoint, source: Path, target: Path) -> None:
    layout = opened.layout
    _write_holes(layout, target)
    if layout.chunk_bytes is not None:
        shutil.copyfile(source / INDEX_FILE, target / INDEX_FILE)
        if layout.assets:
            shutil.copytree(source / ASSET_DIRECTORY, target / ASSET_DIRECTORY)
        return
    for number, part in enumerate(layout.partitions):
        with opened.opened_partition(number) as file, (target / part.file).open("r+b") as copy:
            (header_bytes,) = _HEADER_LENGTH.unpack(read_exactly(file, 8, 0, part.file))
            copy.write(read_exactly(file, 8 + header_bytes, 0, part.file))
    directory = source if source.is_dir() else source.parent
    shard_indexes = [directory / name for name in SHARD_INDEXES] if source.is_dir() else []
    for asset in (*asset_files(directory), *shard_indexes):
        if asset.is_file():
            shutil.copyfile(asset, target / asset.name)


def _write_holes(layout: Layout, target: Path) -> None:
    for part in layout.partitions:
        (target / part.file).touch(0o644)
        os.truncate(target / part.file, part.size_bytes)
