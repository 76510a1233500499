"""Grouping of prefills into forward passes.

Sequences at their very beginning do: they see nothing but their own new tokens, so that the shorter
ones can be padded at the end, where nothing looks. A row joins a pass when at least half of it is
its own. What goes on from a cache is computed alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sllmreal.engine.sequence import RunningSequence

_LEAST_FILL = 0.5  # a pass costs a fixed part besides, of the order of a few tokens


@dataclass(frozen=True, slots=True)
class Prefill:
    """Positions [num_cached, end) of a sequence, and the token that follows them, if `sample`."""

    sequence: RunningSequence
    end: int
    sample: bool

    @property
    def begin(self) -> int:
        return self.sequence.num_cached

    @property
    def num_tokens(self) -> int:
        return self.end - self.sequence.num_cached


def passes(prefills: Sequence[Prefill]) -> list[list[Prefill]]:
    """Each prefill once: those that begin at 0 in rows of similar lengths, the others alone."""
    alone = [[one] for one in prefills if one.begin > 0]
    shared: list[list[Prefill]] = []
    fresh = [one for one in prefills if one.begin == 0]
    for one in sorted(fresh, key=lambda one: -one.end):
        if shared and one.end >= _LEAST_FILL * shared[-1][0].end:
            shared[-1].append(one)
        else:
            shared.append([one])
    return shared + alone
