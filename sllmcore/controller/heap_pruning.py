"""Heaps whose entries lose their cause before they surface, kept from growing with time."""

from collections.abc import Callable
from heapq import heapify
from typing import TypeVar

T = TypeVar("T", tuple[int, str], tuple[float, int, str, float])
_SPARE = 64  # entries that a heap may always have


def prune_heap(heap: list[T], num_valid: int, is_valid: Callable[[T], bool]) -> None:
    """Drop what has gone, and doubles, from a heap of more than twice as many entries as there can
    be causes. That halves it at least, so that it costs a push no more than a constant."""
    if len(heap) > 2 * num_valid + _SPARE:
        heap[:] = dict.fromkeys(entry for entry in heap if is_valid(entry))
        heapify(heap)
