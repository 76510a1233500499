"""PyTorch files (.bin, .pt, .pth) as a source, without unpickling in this process.

A child process reads the pickle, weights only and with limits on its resources, and describes the
place of each storage in the file. This process checks the description and copies the bytes itself.
"""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from sllmreal.checkpoint.arrange import SourceTensor
from sllmreal.checkpoint.dtypes import ITEM_BYTES
from sllmreal.checkpoint.errors import BadCheckpointError
from sllmreal.checkpoint.layout import TensorEntry, check_tensor, span_bytes
from sllmreal.checkpoint.opening import OpenedFile, opened_file
from sllmreal.checkpoint.tensor_source import FileExtent, FileSource

SUFFIXES = (".bin", ".pt", ".pth")
_TIMEOUT_S = 900.0  # a 50 GB file's pickle takes seconds; the rest allows for a slow disk
_MAX_DESCRIPTION_BYTES = 64 << 20


class PickledTensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The child's description of a tensor. `storage_begin` is the storage's offset in the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    storage_begin: int
    storage_bytes: int
    view_offset: int


def pickled_files(path: Path) -> list[Path]:
    """Return the PyTorch weight files at `path`, a file or a directory; may be empty."""
    if path.is_file():
        return [path] if path.suffix in SUFFIXES else []
    names = ("pytorch_model*.bin", "adapter_model.bin", "*.pt", "*.pth", "*.bin")
    for pattern in names:
        found = sorted(file for file in path.glob(pattern) if file.name != "training_args.bin")
        if found:
            return found
    return []


@contextmanager
def pickled_source(files: Sequence[Path]) -> Iterator[FileSource]:
    """Open the tensors of PyTorch state dicts. Raises BadCheckpointError if one is not readable."""
    tensors: list[SourceTensor] = []
    extents: list[FileExtent] = []
    with ExitStack() as stack:
        opened = [stack.enter_context(opened_file(path, follow=True)) for path in files]
        for path, file in zip(files, opened, strict=True):
            _append(_described(path), file, tensors, extents)
        if len({tensor.name for tensor in tensors}) != len(tensors):
            raise BadCheckpointError("two PyTorch files have a tensor of the same name")
        yield FileSource(tensors, extents, "|".join(file.stamp for file in opened))


def _described(path: Path) -> list[PickledTensor]:
    command = [sys.executable, "-m", "sllmreal.checkpoint.pickled_child", str(path.resolve())]
    try:
        child = subprocess.run(  # noqa: S603
            command, capture_output=True, check=False, timeout=_TIMEOUT_S, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired as error:
        raise BadCheckpointError(f"{path} was not read within {_TIMEOUT_S} s") from error
    if child.returncode != 0:
        reason = child.stderr.decode(errors="replace").strip().splitlines()
        raise BadCheckpointError(f"{path} is not a weights-only state dict: {reason[-1:]}")
    if len(child.stdout) > _MAX_DESCRIPTION_BYTES:
        raise BadCheckpointError(f"{path} describes too many tensors")
    try:
        return msgspec.json.decode(child.stdout, type=list[PickledTensor])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadCheckpointError(f"{path}: {error}") from error


def _append(
    described: Sequence[PickledTensor],
    file: OpenedFile,
    tensors: list[SourceTensor],
    extents: list[FileExtent],
) -> None:
    """Add one file's tensors after checking the child's whole description."""
    numbers: dict[tuple[int, int], int] = {}
    for item in described:
        if item.dtype not in ITEM_BYTES:
            raise BadCheckpointError(f"tensor {item.name!r} has dtype {item.dtype}")
        empty = span_bytes(item.dtype, item.shape, item.stride) == 0
        size_bytes = 0 if empty else item.storage_bytes
        view_bytes = 0 if empty else item.view_offset
        checked = (item.name, 0, 0, size_bytes, item.dtype, item.shape, item.stride, view_bytes)
        check_tensor(TensorEntry(*checked))
        place = (item.storage_begin, item.storage_bytes)
        if not empty and (place[0] < 0 or sum(place) > file.size_bytes):
            raise BadCheckpointError(f"tensor {item.name!r} lies outside its file")
        if place not in numbers:
            numbers[place] = len(extents)
            extents.append(FileExtent(file, *place))
        tensors.append(
            SourceTensor(
                name=item.name,
                storage=numbers[place],
                offset_bytes=view_bytes,
                dtype=item.dtype,
                shape=item.shape,
                stride=item.stride,
            )
        )
