"""Pruning of heaps: removes invalid entries, so that a heap does not grow without bound."""

from collections.abc import Callable
from heapq import heapify
from typing import TypeVar

T = TypeVar("T", tuple[int, str], tuple[float, int, str, float])
_SPARE = 64  # number of entries that are never worth pruning


def prune_heap(heap: list[T], num_valid: int, is_valid: Callable[[T], bool]) -> None:
    """Remove invalid and duplicate entries from a heap that is more than twice too long.

    `num_valid` is an upper bound on the number of valid entries. Pruning at least halves the heap,
    so that its amortised cost per push is constant.
    """
    if len(heap) > 2 * num_valid + _SPARE:
        heap[:] = dict.fromkeys(entry for entry in heap if is_valid(entry))
        heapify(heap)
