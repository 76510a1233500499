"""Scattered chunks of a pool, mapped as one piece of memory, so that tensors can be views.

The pages are shared with the pool. A write to a tensor gives the writing process a private page:
neither the pool nor another process changes.
"""

import mmap
from collections.abc import Mapping
from itertools import pairwise

from sllmreal.checkpoint.layout import Layout
from sllmreal.loader.memory import Image, advise_huge_range, map_file, reserve_image
from sllmreal.loader.plan import ChunkKey


def map_window(
    layout: Layout, chunk_bytes: int, pool_fd: int, chunks: Mapping[ChunkKey, int]
) -> list[Image]:
    """Map `chunks` at their places in one image per partition and return the images.

    Raises StorageError if they cannot be mapped.
    """
    images = [reserve_image(_rounded(part.size_bytes, chunk_bytes)) for part in layout.partitions]
    for first, count in _runs(chunks):
        image = images[first.partition]
        address = image.address + first.number * chunk_bytes
        size_bytes = count * chunk_bytes
        offset = chunks[first] * chunk_bytes
        map_file(address, pool_fd, offset, size_bytes, flags=mmap.MAP_PRIVATE)
        advise_huge_range(address, size_bytes)
    return images


def _rounded(size_bytes: int, chunk_bytes: int) -> int:
    return -(-size_bytes // chunk_bytes) * chunk_bytes


def _runs(chunks: Mapping[ChunkKey, int]) -> list[tuple[ChunkKey, int]]:
    """Return runs that are adjacent in a partition and in the pool: (first key, length)."""
    keys = sorted(chunks, key=lambda key: (key.partition, key.number))
    if not keys:
        return []
    starts = [0]
    for position, (before, key) in enumerate(pairwise(keys), start=1):
        adjacent = (key.partition, key.number) == (before.partition, before.number + 1)
        if not adjacent or chunks[key] != chunks[before] + 1:
            starts.append(position)
    ends = [*starts[1:], len(keys)]
    return [(keys[start], end - start) for start, end in zip(starts, ends, strict=True)]
