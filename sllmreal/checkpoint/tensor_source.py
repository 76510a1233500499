"""Sources of a conversion's tensors: memory, or files of known layout."""

import ctypes
import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sllmreal.checkpoint.arrange import SourceTensor
from sllmreal.checkpoint.dtypes import dtype_name
from sllmreal.checkpoint.errors import BadCheckpointError, StorageError
from sllmreal.checkpoint.opening import OpenedFile
from sllmreal.checkpoint.source import opened_checkpoint

if TYPE_CHECKING:
    import torch


class TensorSource(Protocol):
    """Tensors as views of numbered storages; any part of a storage can be read at any time."""

    @property
    def tensors(self) -> Sequence[SourceTensor]: ...

    @property
    def metadata(self) -> Mapping[str, str]: ...

    @property
    def fingerprint(self) -> str:
        """A string that differs when the bytes may differ: a conversion then starts over."""
        ...

    def read_into(self, storage: int, offset_bytes: int, target: memoryview) -> None:
        """Fill `target` from that place. Raises StorageError if the bytes cannot be read."""
        ...


@dataclass(frozen=True, slots=True)
class FileExtent:
    """A storage's bytes in an open file."""

    file: OpenedFile
    offset_bytes: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class FileSource:
    """Tensors in open files: safetensors, our own format, or PyTorch's zip archives."""

    tensors: Sequence[SourceTensor]
    storages: Sequence[FileExtent]
    fingerprint: str
    metadata: Mapping[str, str] = field(default_factory=dict)

    def read_into(self, storage: int, offset_bytes: int, target: memoryview) -> None:
        extent = self.storages[storage]
        if offset_bytes + len(target) > extent.size_bytes:
            raise BadCheckpointError(
                f"storage {storage} has {extent.size_bytes} bytes, fewer than its tensors need"
            )
        begin = extent.offset_bytes + offset_bytes
        if _is_hole(extent.file.fd, begin, len(target)):
            target[:] = bytes(len(target))
            return
        done = 0
        while done < len(target):
            try:
                got = os.preadv(extent.file.fd, [target[done:]], begin + done)
            except OSError as error:
                raise StorageError(f"reading the source: {error}") from error
            if got == 0:
                raise StorageError("the source ended early: it was changed while it was read")
            done += got


def _is_hole(fd: int, begin: int, size_bytes: int) -> bool:
    """Return True if the file system reports that range of a sparse file as a hole."""
    try:
        return os.lseek(fd, begin, os.SEEK_DATA) >= begin + size_bytes
    except OSError as error:
        # No data up to the end of the file. A file that was cut short must still fail when read.
        return error.errno == errno.ENXIO and os.fstat(fd).st_size >= begin + size_bytes


@contextmanager
def layout_source(path: Path) -> Iterator[FileSource]:
    """Open the tensors of a checkpoint in a format that `read_layout` can read."""
    with ExitStack() as stack:
        opened = stack.enter_context(opened_checkpoint(path))
        layout = opened.layout
        files = [
            stack.enter_context(opened.opened_partition(number))
            for number in range(len(layout.partitions))
        ]
        numbers: dict[tuple[int, int, int], int] = {}
        tensors = []
        for tensor in layout.tensors:
            place = (tensor.partition, tensor.offset_bytes, tensor.size_bytes)
            number = numbers.setdefault(place, len(numbers))
            tensors.append(
                SourceTensor(
                    name=tensor.name,
                    storage=number,
                    offset_bytes=tensor.view_offset_bytes,
                    dtype=tensor.dtype,
                    shape=tensor.shape,
                    stride=tensor.stride,
                )
            )
        extents = [FileExtent(files[part], offset, size) for part, offset, size in numbers]
        yield FileSource(tensors, extents, layout.identity, dict(layout.metadata))


class StateDictSource:
    """Tensors in memory, on any device. Tensors that share a storage share it in the checkpoint."""

    def __init__(self, state_dict: Mapping[str, "torch.Tensor"]) -> None:
        self.metadata: Mapping[str, str] = {}
        self.fingerprint = ""  # content of memory has no identity: such a save never resumes
        self._storages: list[torch.UntypedStorage] = []
        numbers: dict[tuple[str, int], int] = {}
        self.tensors: list[SourceTensor] = []
        for name, tensor in state_dict.items():
            if tensor.layout.__repr__() != "torch.strided" or tensor.is_quantized:
                raise BadCheckpointError(
                    f"tensor {name!r} must be dense and not quantised, it is {tensor.layout}"
                )
            if tensor.device.type == "meta":
                raise BadCheckpointError(f"tensor {name!r} is on the meta device and has no bytes")
            plain = tensor.detach().resolve_conj().resolve_neg()
            storage = plain.untyped_storage()
            key = (str(storage.device), storage.data_ptr())
            if storage.nbytes() == 0:
                key = ("empty", len(self._storages))
            if key not in numbers:
                numbers[key] = len(self._storages)
                self._storages.append(storage)
            self.tensors.append(_source_tensor(name, plain, numbers[key]))

    def read_into(self, storage: int, offset_bytes: int, target: memoryview) -> None:
        source = self._storages[storage]
        part = source[offset_bytes : offset_bytes + len(target)]
        if part.device.type != "cpu":
            part = part.cpu()
        raw = (ctypes.c_char * len(target)).from_address(part.data_ptr())
        target[:] = memoryview(raw).cast("B")


def _source_tensor(name: str, tensor: "torch.Tensor", storage: int) -> SourceTensor:
    return SourceTensor(
        name=name,
        storage=storage,
        offset_bytes=int(tensor.storage_offset()) * tensor.element_size(),
        dtype=dtype_name(tensor.dtype),
        shape=tuple(tensor.shape),
        stride=tuple(tensor.stride()),
    )
