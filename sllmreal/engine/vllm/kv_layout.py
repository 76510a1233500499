"""The layout of keys and values in vLLM's CPU attention, with access to positions of them.

A layer's cache has the shape (blocks, heads, block_tokens, 2 * head_dim). The memory of one head
in one block is two matrices, one after the other (`isa` "vec" of vLLM 0.32's CPU attention; found
by comparing with keys and values of transformers):

    keys    (head_dim, block_tokens): transposed
    values  (block_tokens, head_dim)
"""

from collections.abc import Iterator, Sequence

import torch

READABLE_ISA = "vec"  # AMX and others pack keys in tiles


def read_positions(
    cache: torch.Tensor, blocks: Sequence[int], begin: int, end: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return copies of the keys and values of [begin, end), each (heads, end - begin, head_dim)."""
    keys, values = [], []
    for block, first, last in _spans(cache, blocks, begin, end):
        of_keys, of_values = _matrices(cache, block)
        keys.append(of_keys[:, :, first:last].transpose(1, 2))
        values.append(of_values[:, first:last])
    return torch.cat(keys, dim=1).contiguous(), torch.cat(values, dim=1).contiguous()


def write_positions(
    cache: torch.Tensor,
    blocks: Sequence[int],
    begin: int,
    keys: torch.Tensor,
    values: torch.Tensor,
) -> None:
    """Write keys and values, each (heads, tokens, head_dim), at the positions from `begin` on."""
    end, done = begin + keys.shape[1], 0
    for block, first, last in _spans(cache, blocks, begin, end):
        of_keys, of_values = _matrices(cache, block)
        count = last - first
        of_keys[:, :, first:last] = keys[:, done : done + count].transpose(1, 2)
        of_values[:, first:last] = values[:, done : done + count]
        done += count


def _spans(
    cache: torch.Tensor, blocks: Sequence[int], begin: int, end: int
) -> Iterator[tuple[int, int, int]]:
    """Yield block, first and last place in it, for each block that [begin, end) touches."""
    block_tokens = cache.shape[2]
    position = begin
    while position < end:
        number, first = divmod(position, block_tokens)
        last = min(block_tokens, first + end - position)
        yield blocks[number], first, last
        position += last - first


def _matrices(cache: torch.Tensor, block: int) -> tuple[torch.Tensor, torch.Tensor]:
    heads, block_tokens, fused = cache.shape[1:]
    head_dim = fused // 2
    flat = cache[block].view(heads, 2, block_tokens * head_dim)
    keys = flat[:, 0].view(heads, head_dim, block_tokens)
    return keys, flat[:, 1].view(heads, block_tokens, head_dim)


def joined(keys: torch.Tensor, values: torch.Tensor) -> memoryview:
    """Return keys and values, each (heads, tokens, head_dim), as a `KVBlock` keeps a layer."""
    return torch.stack((keys, values)).view(-1).view(torch.uint8).numpy().data


def parted(
    layer: memoryview, shape: tuple[int, int, int], dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return copies of a `KVBlock` layer's keys and values, each of `shape`."""
    both = torch.empty((2, *shape), dtype=dtype)
    both.view(-1).view(torch.uint8).numpy().data[:] = layer.cast("B")
    keys, values = both
    return keys, values
