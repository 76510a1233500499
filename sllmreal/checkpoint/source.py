"""Opening of a checkpoint in any format: ours, a safetensors file, or a directory of shards."""

import errno
import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sllmreal.checkpoint.errors import BadCheckpointError, StorageError
from sllmreal.checkpoint.index import HEADER_BYTES, INDEX_FILE, MAX_BODY_BYTES, decode_index
from sllmreal.checkpoint.layout import Layout, Partition
from sllmreal.checkpoint.lifetime import Lifetime
from sllmreal.checkpoint.opening import OpenedFile, opened_directory, opened_file, read_exactly
from sllmreal.checkpoint.safetensors_header import (
    MAX_HEADER_BYTES,
    SafetensorsHeader,
    read_header,
)
from sllmreal.checkpoint.shards import SHARD_INDEXES as SHARD_INDEXES
from sllmreal.checkpoint.shards import (
    check_shard_index,
    joined_layout,
    parse_shard_index,
)


@dataclass(frozen=True, slots=True)
class OpenedCheckpoint:
    """A layout and its open directory, so that all files belong to the same checkpoint."""

    layout: Layout
    _dir_fd: int
    _lifetime: Lifetime

    def opened_partition(
        self, partition: int, *, direct: bool = False
    ) -> AbstractContextManager[OpenedFile]:
        """Open the file of a partition; it is closed at the end.

        Raises BadCheckpointError unless it has the length that the layout gives, ClosedError after
        the directory was closed.
        """
        return self._opened(self.layout.partitions[partition], direct)

    @contextmanager
    def _opened(self, part: Partition, direct: bool) -> Iterator[OpenedFile]:
        # Links are followed for plain safetensors only: model hubs store files behind links.
        follow = self.layout.chunk_bytes is None
        with ExitStack() as stack:
            with self._lifetime.use():
                opened = opened_file(part.file, dir_fd=self._dir_fd, follow=follow, direct=direct)
                file = stack.enter_context(opened)
            if file.size_bytes != part.size_bytes:
                raise BadCheckpointError(
                    f"{part.file} has {file.size_bytes} bytes, must have {part.size_bytes}"
                )
            yield file


@contextmanager
def opened_checkpoint(path: Path) -> Iterator[OpenedCheckpoint]:
    """Open the checkpoint at `path`: ours, a safetensors file, or a directory of such files.

    The directory stays open until the end. Every partition's length is checked. Raises
    BadCheckpointError if `path` is none of these or breaks a rule, StorageError if a disk fails.
    """
    path = Path(path)
    try:
        file = path.resolve() if path.is_file() else None
    except RuntimeError as error:
        raise BadCheckpointError(f"{str(path)[:200]} is a loop of links") from error
    except OSError as error:
        kind = BadCheckpointError if error.errno == errno.ENAMETOOLONG else StorageError
        raise kind(f"{str(path)[:200]}: {error.strerror}") from error
    with opened_directory(path if file is None else file.parent) as dir_fd:
        try:
            layout = _layout(path, file, dir_fd)
        except OSError as error:
            raise StorageError(f"reading {path}: {error}") from error
        lifetime = Lifetime(f"the directory of {path}")
        opened = OpenedCheckpoint(layout, dir_fd, lifetime)
        try:
            for partition in range(len(layout.partitions)):
                with opened.opened_partition(partition):
                    pass
            yield opened
        finally:
            lifetime.close()


def read_layout(path: Path) -> Layout:
    """Return the layout of the checkpoint at `path`. Raises as `opened_checkpoint`."""
    with opened_checkpoint(path) as opened:
        return opened.layout


def _layout(path: Path, file: Path | None, dir_fd: int) -> Layout:
    if file is not None:
        return _safetensors_layout(path, dir_fd, [file.name])
    if (path / INDEX_FILE).is_symlink() or (path / INDEX_FILE).exists():
        return _native_layout(path, dir_fd)
    return _directory_layout(path, dir_fd)


def _native_layout(path: Path, dir_fd: int) -> Layout:
    with opened_file(INDEX_FILE, dir_fd=dir_fd) as file:
        if file.size_bytes > HEADER_BYTES + MAX_BODY_BYTES:
            raise BadCheckpointError(f"{INDEX_FILE} of {file.size_bytes} bytes")
        index = read_exactly(file, file.size_bytes, 0, INDEX_FILE)
    return decode_index(index, path)


def _directory_layout(path: Path, dir_fd: int) -> Layout:
    for index in SHARD_INDEXES:
        if (path / index).is_file():
            weight_map = _weight_map(dir_fd, index)
            files = sorted(set(weight_map.values()))
            layout = _safetensors_layout(path, dir_fd, files)
            check_shard_index(layout, weight_map)
            return layout
    files = sorted(entry.name for entry in path.iterdir() if entry.suffix == ".safetensors")
    if not files:
        raise BadCheckpointError(
            f"{path} has neither {INDEX_FILE} nor safetensors; convert PyTorch files first"
        )
    return _safetensors_layout(path, dir_fd, files)


def _weight_map(dir_fd: int, index: str) -> dict[str, str]:
    with opened_file(index, dir_fd=dir_fd, follow=True) as file:
        if file.size_bytes > MAX_HEADER_BYTES:
            raise BadCheckpointError(f"{index} of {file.size_bytes} bytes")
        raw = read_exactly(file, file.size_bytes, 0, index)
    return parse_shard_index(raw, index)


def _safetensors_layout(path: Path, dir_fd: int, files: list[str]) -> Layout:
    partitions: list[Partition] = []
    headers: list[SafetensorsHeader] = []
    stamps = hashlib.sha256()
    for number, name in enumerate(files):
        with opened_file(name, dir_fd=dir_fd, follow=True) as file:
            headers.append(read_header(file, name, number))
            stamps.update(f"{name}:{file.stamp}\n".encode(errors="surrogateescape"))
            partitions.append(Partition(name, file.size_bytes))
    return joined_layout(path, stamps.hexdigest(), partitions, headers)
