"""Tensors as views of loaded memory, without a copy; tied tensors share their storage."""

import math
from collections.abc import Sequence

import torch

from sllmreal.checkpoint.dtypes import ITEM_BYTES, torch_dtype
from sllmreal.checkpoint.layout import TensorEntry
from sllmreal.loader.memory import Image


class HostViews:
    """CPU tensors over the images of a checkpoint's partitions."""

    def __init__(self, images: Sequence[Image]) -> None:
        self._images = images
        self._storages: dict[tuple[int, int, int], torch.Tensor] = {}

    def tensor(self, entry: TensorEntry) -> torch.Tensor:
        """Return the tensor that `entry` describes, as a view.

        A storage that is misaligned for its elements is copied; only tightly packed safetensors
        files of other tools have such storages.
        """
        dtype = torch_dtype(entry.dtype)
        if entry.empty:
            return torch.empty(entry.shape, dtype=dtype)
        key = (entry.partition, entry.offset_bytes, entry.size_bytes)
        storage = self._storages.get(key)
        if storage is None:
            whole = entry.size_bytes % dtype.itemsize == 0
            storage = self._storage(entry, dtype if whole else torch.uint8)
            self._storages[key] = storage
            if whole and entry.contiguous and storage.numel() == math.prod(entry.shape):
                return storage.view(entry.shape)
        return strided_view(storage.view(torch.uint8), entry, 0)

    def _storage(self, entry: TensorEntry, dtype: torch.dtype) -> torch.Tensor:
        image = self._images[entry.partition]
        begin = image.offset_bytes + entry.offset_bytes
        if entry.offset_bytes % ITEM_BYTES[entry.dtype]:
            end = begin + entry.size_bytes
            copied = bytearray(memoryview(image.mapping)[begin:end])
            return torch.frombuffer(copied, dtype=torch.uint8).clone().view(dtype)
        count = entry.size_bytes // dtype.itemsize
        return torch.frombuffer(image.mapping, dtype=dtype, count=count, offset=begin)


def strided_view(raw: torch.Tensor, entry: TensorEntry, offset_bytes: int) -> torch.Tensor:
    """Return the tensor of `entry`; its storage begins at `offset_bytes` of the bytes `raw`."""
    dtype = torch_dtype(entry.dtype)
    item_bytes = dtype.itemsize
    begin = offset_bytes + entry.view_offset_bytes
    elements = (entry.size_bytes - entry.view_offset_bytes) // item_bytes
    flat = raw[begin : begin + elements * item_bytes].view(dtype)
    if entry.contiguous:
        return flat[: math.prod(entry.shape)].view(entry.shape)
    return flat.as_strided(entry.shape, entry.stride, flat.storage_offset())
