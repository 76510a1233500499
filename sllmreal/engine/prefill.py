"""Grouping of prefills into forward passes.

Sequences at position 0 share a pass: they see only their own new tokens, so the shorter ones can be
padded at the end, which no token sees. A row joins a pass if at least half of it is its own. A
prefill that continues a cache is computed alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sllmreal.engine.sequence import RunningSequence

_LEAST_FILL = 0.5  # a pass has a fixed cost of about a few tokens


@dataclass(frozen=True, slots=True)
class Prefill:
    """Positions [num_cached, end) of a sequence, and the token after them, if `sample`."""

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
    """Return each prefill once: those that begin at 0 in rows of similar lengths, others alone."""
    alone = [[one] for one in prefills if one.begin > 0]
    shared: list[list[Prefill]] = []
    fresh = [one for one in prefills if one.begin == 0]
    for one in sorted(fresh, key=lambda one: -one.end):
        if shared and one.end >= _LEAST_FILL * shared[-1][0].end:
            shared[-1].append(one)
        else:
            shared.append([one])
    return shared + alone
