"""Tensors as views of loaded memory: nothing is copied, and tied tensors share their storage."""

from collections.abc import Sequence

import torch

from sllmreal.checkpoint.dtypes import ITEM_BYTES, torch_dtype
from sllmreal.checkpoint.layout import TensorEntry
from sllmreal.loader.memory import Image


class HostViews:
    """Makes CPU tensors over the images of a checkpoint's partitions."""

    def __init__(self, images: Sequence[Image]) -> None:
        self._images = images
        self._storages: dict[tuple[int, int, int], torch.Tensor] = {}

    def tensor(self, entry: TensorEntry) -> torch.Tensor:
        """The view `entry` describes. A storage misaligned for its elements is copied instead,
        which happens only in safetensors files that some other tool packed tightly."""
        dtype = torch_dtype(entry.dtype)
        if entry.empty:
            return torch.empty(entry.shape, dtype=dtype)
        key = (entry.partition, entry.offset_bytes, entry.size_bytes)
        if key not in self._storages:
            self._storages[key] = self._storage(entry)
        return strided_view(self._storages[key], entry, 0)

    def _storage(self, entry: TensorEntry) -> torch.Tensor:
        image = self._images[entry.partition]
        storage = torch.frombuffer(
            image.mapping,
            dtype=torch.uint8,
            count=entry.size_bytes,
            offset=image.offset_bytes + entry.offset_bytes,
        )
        return storage.clone() if entry.offset_bytes % ITEM_BYTES[entry.dtype] else storage


def strided_view(raw: torch.Tensor, entry: TensorEntry, offset_bytes: int) -> torch.Tensor:
    """The tensor of `entry` whose storage begins at `offset_bytes` of the flat bytes `raw`."""
    dtype = torch_dtype(entry.dtype)
    item_bytes = dtype.itemsize
    begin = offset_bytes + entry.view_offset_bytes
    elements = (entry.size_bytes - entry.view_offset_bytes) // item_bytes
    flat = raw[begin : begin + elements * item_bytes].view(dtype)
    if entry.contiguous:
        num = 1
        for extent in entry.shape:
            num *= extent
        return flat[:num].view(entry.shape)
    return flat.as_strided(entry.shape, entry.stride, flat.storage_offset())
