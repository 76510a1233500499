"""The source of a model: a directory on this machine, or a storage service: the REMOTE tier.

A source provides the model's layout, its small files and the bytes of its chunks.
"""

import os
import shutil
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from sllmcore.errors import UsageError
from sllmreal.checkpoint.assets import asset_files
from sllmreal.checkpoint.index import ASSET_DIRECTORY, INDEX_FILE
from sllmreal.checkpoint.layout import Layout
from sllmreal.checkpoint.opening import read_exactly
from sllmreal.checkpoint.shards import SHARD_INDEXES
from sllmreal.checkpoint.source import OpenedCheckpoint, opened_checkpoint
from sllmreal.loader.plan import ChunkRead
from sllmreal.loader.reading import opened_reader
from sllmreal.loader.remote_model import RemoteModel, remote_model
from sllmreal.loader.remote_storage import RemoteStorage, remote_storage
from sllmreal.loader.write_through import RemoteReader

_HEADER_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class RemoteSource:
    """An open source. `read_into` fills memory at an address with a chunk, from many threads.

    `write_frame` makes a directory a checkpoint of the same layout, with holes for tensor bytes.
    """

    layout: Layout
    read_into: Callable[[ChunkRead, int], None]
    write_frame: Callable[[Path], None]


@contextmanager
def opened_origin(source: str) -> Iterator[RemoteSource]:
    """Open the checkpoint, ours or safetensors, at a path or an `http(s)://` or `s3://` URL.

    Raises:
        BadCheckpointError: There is no checkpoint.
        StorageError, RemoteError: The checkpoint cannot be read.
        UsageError: A service serves safetensors without an ETag or a time of modification.
    """
    if urlsplit(source).scheme in ("http", "https", "s3"):
        with remote_storage(source) as storage:
            model = remote_model(storage, Path(source))
            if not model.recognisable:
                raise UsageError(
                    f"{source} serves safetensors without an ETag or a time of modification: "
                    "cached copies could not be matched to them"
                )
            yield RemoteSource(
                model.layout,
                RemoteReader(storage, model.layout).read_into,
                lambda target: _write_remote_frame(storage, model, target),
            )
    else:
        with opened_checkpoint(Path(source)) as opened, opened_reader(opened) as reader:
            yield RemoteSource(
                opened.layout,
                reader.read_into,
                lambda target: _write_local_frame(opened, Path(source), target),
            )


def _write_remote_frame(storage: RemoteStorage, model: RemoteModel, target: Path) -> None:
    _write_holes(model.layout, target)
    model.write_rest(target)
    if model.layout.chunk_bytes is not None:
        return
    for part in model.layout.partitions:
        _copy_header(partial(_first_bytes, storage, part.file), target / part.file)


def _first_bytes(storage: RemoteStorage, name: str, size_bytes: int) -> bytes:
    content = bytearray(size_bytes)
    storage.read_into(name, 0, memoryview(content))
    return bytes(content)


def _write_local_frame(opened: OpenedCheckpoint, source: Path, target: Path) -> None:
    layout = opened.layout
    _write_holes(layout, target)
    if layout.chunk_bytes is not None:
        shutil.copyfile(source / INDEX_FILE, target / INDEX_FILE)
        if layout.assets:
            shutil.copytree(source / ASSET_DIRECTORY, target / ASSET_DIRECTORY)
        return
    for number, part in enumerate(layout.partitions):
        with opened.opened_partition(number) as file:
            read = partial(read_exactly, file, offset_bytes=0, name=part.file)
            _copy_header(read, target / part.file)
    directory = source if source.is_dir() else source.parent
    shard_indexes = [directory / name for name in SHARD_INDEXES] if source.is_dir() else []
    for asset in (*asset_files(directory), *shard_indexes):
        if asset.is_file():
            shutil.copyfile(asset, target / asset.name)


def _copy_header(first_bytes: Callable[[int], bytes], target: Path) -> None:
    """Copy the bytes before the tensors of a safetensors file; `first_bytes` reads the source."""
    (header_bytes,) = _HEADER_LENGTH.unpack(first_bytes(_HEADER_LENGTH.size))
    with target.open("r+b") as copy:
        copy.write(first_bytes(_HEADER_LENGTH.size + header_bytes))


def _write_holes(layout: Layout, target: Path) -> None:
    for part in layout.partitions:
        (target / part.file).touch(0o644)
        os.truncate(target / part.file, part.size_bytes)
