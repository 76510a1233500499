"""The KV cache of an engine: one row per slot, reserved once, filled as sequences grow.

A forward pass sees a *window*: some rows, the positions of its new tokens, and the last position
that it may see. The views of all layers are made at once, so that a layer costs two copies and no
arithmetic.

A mask hides the positions after a row's end by multiplying them by zero, so they must be finite.
Therefore fresh memory is zero, and a row is zeroed when its sequence leaves.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from sllmreal.engine.protocol import KVBlock
from sllmreal.loader.memory import reserve_image


@dataclass(frozen=True, slots=True)
class CacheShape:
    """The shape of the cache of one token."""

    num_layers: int
    num_heads: int
    head_dim: int
    dtype: torch.dtype
    device: torch.device

    @property
    def token_bytes(self) -> int:
        return 2 * self.num_layers * self.num_heads * self.head_dim * self.dtype.itemsize

    @property
    def layout(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        return f"{dtype}, {self.num_layers} layers, {self.num_heads} heads, {self.head_dim}"


class PassCache:
    """The part of `past_key_values`, beside `update`, that transformers' models use: sizes."""

    is_compileable = False

    def __init__(self) -> None:
        self.num_past = 0  # positions before the new tokens, if equal in all rows
        self.end = 0  # positions that the pass may see

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.num_past

    def get_query_offset(self, layer_idx: int = 0) -> int:
        return self.num_past

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        return self.end, 0


class ProbeCache(PassCache):
    """A cache that keeps only what each layer writes, to find the shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.end = 1
        self.written: list[tuple[torch.Tensor, torch.Tensor]] = []

    def update(
        self, key: torch.Tensor, value: torch.Tensor, layer_idx: int, *_ignored: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self.written.append((key, value))
        return key, value


class RowCache(PassCache):
    """Keys and values, of shape (layers, 2, rows, heads, positions, head_dim)."""

    def __init__(self, shape: CacheShape, num_rows: int, num_positions: int) -> None:
        super().__init__()
        self.shape = shape
        self._kv = _zeros(
            (shape.num_layers, 2, num_rows, shape.num_heads, num_positions, shape.head_dim), shape
        )
        self._touched = [0] * num_rows  # leading positions that may differ from zero
        self._entries = self._kv.view(2 * shape.num_layers, -1, shape.head_dim).unbind()
        heads = torch.arange(num_rows * shape.num_heads, device=shape.device)
        self._starts = (
            heads.view(num_rows, -1) * num_positions
        )  # start of each row's heads in an entry
        self._visible: tuple[torch.Tensor, ...] = ()
        self._fresh: tuple[torch.Tensor, ...] = ()
        self._index: torch.Tensor | None = None
        self._parts: tuple[tuple[torch.Tensor, ...], ...] = ()

    def open_fresh(self, rows: Sequence[int], lengths: Sequence[int]) -> None:
        """Let the next pass compute positions [0, length) of each of these rows, padded at the
        end."""
        flat = self._kv.flatten(0, 1)
        places = zip(rows, lengths, strict=True)
        parts = [flat[:, row, :, :length].unbind() for row, length in places]
        self._parts = tuple(zip(*parts, strict=True))
        self.num_past, self.end = 0, max(lengths)
        for row, length in zip(rows, lengths, strict=True):
            self._touched[row] = max(self._touched[row], length)

    def open_rows(self, first: int, num_rows: int, begin: int, end: int) -> None:
        """Let the next pass compute positions [begin, end) of these rows."""
        rows = self._kv[:, :, first : first + num_rows]
        self._visible = rows[:, :, :, :, :end].flatten(0, 1).unbind()
        self._fresh = rows[:, :, :, :, begin:end].flatten(0, 1).unbind()
        self._index, self._parts = None, ()
        self.num_past, self.end = begin, end
        for row in range(first, first + num_rows):
            self._touched[row] = max(self._touched[row], end)

    def open_ragged(self, positions: torch.Tensor, end: int) -> None:
        """Let the next pass compute one token of each of the first rows, at `positions`,
        (rows,)."""
        num_rows = len(positions)
        self._visible = self._kv[:, :, :num_rows, :, :end].flatten(0, 1).unbind()
        self._index = (self._starts[:num_rows] + positions[:, None]).flatten()
        self._parts = ()
        self.num_past, self.end = end - 1, end
        for row in range(num_rows):
            self._touched[row] = max(self._touched[row], end)

    def update(
        self, key: torch.Tensor, value: torch.Tensor, layer_idx: int, *_ignored: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store a layer's new keys and values, (rows, heads, new, head_dim); return all that it
        sees."""
        number = 2 * layer_idx
        if self._parts:
            self._write_parts(number, key)
            self._write_parts(number + 1, value)
            return key, value
        keys, values = self._visible[number], self._visible[number + 1]
        if self._index is None:
            self._fresh[number].copy_(key)
            self._fresh[number + 1].copy_(value)
        else:
            dim = self.shape.head_dim
            self._entries[number].index_copy_(0, self._index, key.reshape(-1, dim))
            self._entries[number + 1].index_copy_(0, self._index, value.reshape(-1, dim))
        return keys, values

    def _write_parts(self, number: int, fresh: torch.Tensor) -> None:
        for part, row in zip(self._parts[number], fresh, strict=True):
            part.copy_(row[:, : part.shape[1]])

    def clear(self, row: int) -> None:
        """Zero a row."""
        self._kv[:, :, row, :, : self._touched[row]] = 0
        self._touched[row] = 0

    def move(self, source: int, target: int) -> None:
        """Move a row's content to a cleared row."""
        extent = self._touched[source]
        self._kv[:, :, target, :, :extent] = self._kv[:, :, source, :, :extent]
        self._touched[target] = extent
        self.clear(source)

    def swap(self, row: int, other: int) -> None:
        """Exchange two rows."""
        extent = max(self._touched[row], self._touched[other])
        kept = self._kv[:, :, row, :, :extent].clone()
        self._kv[:, :, row, :, :extent] = self._kv[:, :, other, :, :extent]
        self._kv[:, :, other, :, :extent] = kept
        self._touched[row], self._touched[other] = self._touched[other], self._touched[row]

    def exported(self, row: int, begin: int, end: int) -> KVBlock:
        """Return a copy of the block in host memory."""
        part = self._kv[:, :, row, :, begin:end]
        host = torch.empty(part.shape, dtype=part.dtype).copy_(part)
        flat = host.view(self.shape.num_layers, -1).view(torch.uint8).numpy()
        return KVBlock(begin, end, tuple(layer.data for layer in flat))

    def insert(self, row: int, block: KVBlock) -> None:
        """Write a block of the right size."""
        shape = (2, self.shape.num_heads, block.end - block.begin, self.shape.head_dim)
        host = torch.empty(shape, dtype=self.shape.dtype)
        self._touched[row] = max(self._touched[row], block.end)
        staged = host.view(-1).view(torch.uint8).numpy().data
        for layer, kept in zip(block.layers, self._kv, strict=True):
            staged[:] = layer.cast("B")
            kept[:, row, :, block.begin : block.end] = host

    def close(self) -> None:
        """Release the memory."""
        self._visible = self._fresh = self._entries = self._parts = ()
        self._index = None
        self._kv = torch.empty(0)


def _zeros(size: tuple[int, ...], shape: CacheShape) -> torch.Tensor:
    """Return zeros; on the CPU, memory that the kernel zeroes when it is touched."""
    if shape.device.type != "cpu":
        return torch.zeros(size, dtype=shape.dtype, device=shape.device)
    num_bytes = math.prod(size) * shape.dtype.itemsize
    image = reserve_image(num_bytes)
    flat = torch.frombuffer(
        image.mapping, dtype=torch.uint8, count=num_bytes, offset=image.offset_bytes
    )
    return flat.view(shape.dtype).view(size)
