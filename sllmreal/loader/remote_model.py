"""Detection of a remote checkpoint: our format, recognised by its index, or plain safetensors.

Safetensors carry no digest. Their identity is a hash of the service's version of each file (ETag or
modification time), the location and the headers. If a service sends no version, no copy is kept,
because it could not be recognised later.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sllmreal.checkpoint.errors import BadCheckpointError, CorruptCheckpointError
from sllmreal.checkpoint.index import (
    ASSET_DIRECTORY,
    HEADER_BYTES,
    INDEX_FILE,
    MAX_ASSET_BYTES,
    MAX_BODY_BYTES,
    decode_index,
)
from sllmreal.checkpoint.layout import Layout, Partition
from sllmreal.checkpoint.safetensors_header import MAX_HEADER_BYTES, SafetensorsHeader, parse_header
from sllmreal.checkpoint.shards import (
    SHARD_INDEXES,
    check_shard_index,
    joined_layout,
    parse_shard_index,
)
from sllmreal.checkpoint.staging import fsync_directory, write_durably
from sllmreal.loader.errors import RemoteStatusError
from sllmreal.loader.remote_storage import RemoteStorage

# Files that transformers and peft write beside the weights.
_SMALL_FILES = (
    *("config.json", "generation_config.json", "adapter_config.json", "chat_template.jinja"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("tokenizer.model", "vocab.json", "vocab.txt", "merges.txt"),
)
_SINGLE_FILES = ("model.safetensors", "adapter_model.safetensors")
# S3 answers 403 instead of 404 if the key may read objects but not list them.
_ABSENT = frozenset((403, 404, 410))


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """A checkpoint in remote storage.

    Attributes:
        layout: Files and tensors of the model.
        recognisable: Equal identities mean equal bytes, so a copy can be kept and found again.
        write_rest: Writes all files but the partitions into a directory, durably.
    """

    layout: Layout
    recognisable: bool
    write_rest: Callable[[Path], None]


def remote_model(storage: RemoteStorage, path: Path) -> RemoteModel:
    """Return the checkpoint in `storage`; `path` becomes the path of its layout.

    Raises RemoteError if there is none or it cannot be read, BadCheckpointError if it breaks a
    rule of its format.
    """
    try:
        index = fetched_index(storage)
    except RemoteStatusError as error:
        if error.status not in _ABSENT:
            raise
        model = _safetensors(storage, path)
        if model is None:
            message = f"the remote storage has neither {INDEX_FILE} nor safetensors: {error}"
            raise RemoteStatusError(message, error.status) from error
        return model
    layout = decode_index(index, path)
    return RemoteModel(layout, True, partial(_write_own, storage, layout, index))


def fetched_index(storage: RemoteStorage) -> bytes:
    """Fetch the bytes of the index. Raises BadCheckpointError if its length is not allowed."""
    size_bytes = storage.object_bytes(INDEX_FILE)
    if not HEADER_BYTES < size_bytes <= HEADER_BYTES + MAX_BODY_BYTES:
        raise BadCheckpointError(
            f"{INDEX_FILE} in the remote storage cannot have {size_bytes} bytes"
        )
    return _fetched(storage, INDEX_FILE, size_bytes)


def _write_own(storage: RemoteStorage, layout: Layout, index: bytes, target: Path) -> None:
    if layout.assets:
        directory = target / ASSET_DIRECTORY
        directory.mkdir(exist_ok=True)
        for asset in layout.assets:
            content = _fetched(storage, f"{ASSET_DIRECTORY}/{asset.file}", asset.size_bytes)
            if hashlib.sha256(content).hexdigest() != asset.sha256:
                raise CorruptCheckpointError(f"asset {asset.file} differs from its SHA-256")
            write_durably(directory / asset.file, content)
        fsync_directory(directory)
    write_durably(target / INDEX_FILE, index)


def _safetensors(storage: RemoteStorage, path: Path) -> RemoteModel | None:
    for index in SHARD_INDEXES:
        if (size_bytes := _size_if_present(storage, index)) is not None:
            return _sharded(storage, path, index, size_bytes)
    for name in _SINGLE_FILES:
        if _size_if_present(storage, name) is not None:
            layout, recognisable = _layout(storage, path, [name])
            return RemoteModel(layout, recognisable, partial(_write_small_files, storage))
    return None


def _sharded(storage: RemoteStorage, path: Path, index: str, size_bytes: int) -> RemoteModel:
    if size_bytes > MAX_HEADER_BYTES:
        raise BadCheckpointError(
            f"{index} must have at most {MAX_HEADER_BYTES} bytes, got {size_bytes}"
        )
    raw = _fetched(storage, index, size_bytes)
    weight_map = parse_shard_index(raw, index)
    layout, recognisable = _layout(storage, path, sorted(set(weight_map.values())))
    check_shard_index(layout, weight_map)

    def write_rest(target: Path) -> None:
        write_durably(target / index, raw)
        _write_small_files(storage, target)

    return RemoteModel(layout, recognisable, write_rest)


def _layout(storage: RemoteStorage, path: Path, files: Sequence[str]) -> tuple[Layout, bool]:
    """Return the layout, and whether equal identities mean equal bytes."""
    partitions: list[Partition] = []
    headers: list[SafetensorsHeader] = []
    names = hashlib.sha256()
    recognisable = True
    for number, name in enumerate(files):
        size_bytes = storage.object_bytes(name)
        length = int.from_bytes(_fetched(storage, name, min(8, size_bytes)), "little")
        if not 2 <= length <= min(MAX_HEADER_BYTES, size_bytes - 8):
            raise BadCheckpointError(f"{name}: its header cannot have {length} bytes")
        raw = _fetched(storage, name, length, offset_bytes=8)
        headers.append(parse_header(raw, size_bytes, name, number))
        partitions.append(Partition(name, size_bytes))
        version = storage.version(name)
        recognisable = recognisable and version is not None
        names.update(f"{name}\n{size_bytes}\n{version}\n".encode() + hashlib.sha256(raw).digest())
    if not recognisable:
        names.update(os.urandom(32))
    return joined_layout(path, names.hexdigest(), partitions, headers), recognisable


def _write_small_files(storage: RemoteStorage, target: Path) -> None:
    """Write the small files that transformers looks for and the storage has."""
    for name in _SMALL_FILES:
        size_bytes = _size_if_present(storage, name)
        if size_bytes is not None and size_bytes <= MAX_ASSET_BYTES:
            write_durably(target / name, _fetched(storage, name, size_bytes))


def _size_if_present(storage: RemoteStorage, name: str) -> int | None:
    try:
        return storage.object_bytes(name)
    except RemoteStatusError as error:
        if error.status not in _ABSENT:
            raise
        return None


def _fetched(storage: RemoteStorage, name: str, size_bytes: int, *, offset_bytes: int = 0) -> bytes:
    content = bytearray(size_bytes)
    if size_bytes:
        storage.read_into(name, offset_bytes, memoryview(content))
    return bytes(content)
