"""What can move: a workload with a log of inputs, and a state that follows from it.

A language model's log is its output tokens and its state the KV cache, which can be copied or
computed again from the tokens. A job whose state does not follow from a short log, such as a
denoising loop, has an empty log and moves by its state alone.
"""

from typing import Protocol

from sllmreal.migration.messages import Delta, Final, Position


class SourceWorkload(Protocol):
    """The workload at its source, where it runs while it moves."""

    @property
    def position(self) -> Position: ...

    def delta(self, since: Position, until: Position, max_bytes: int) -> Delta | None:
        """A first piece of what leads from `since` to `until`; None when nothing is missing."""
        ...

    def hold(self) -> None:
        """Stand still at the present position."""
        ...

    def release(self) -> None:
        """Go on."""
        ...


class DestinationWorkload(Protocol):
    """The workload at its destination, where it is built up and then goes on."""

    @property
    def copied(self) -> Position:
        """How far log and copied state reach."""
        ...

    @property
    def ready(self) -> int:
        """How much of the state needs no more work, copied or computed."""
        ...

    @property
    def settled(self) -> bool:
        """Whether `ready` will not grow without more deltas."""
        ...

    def absorb(self, delta: Delta) -> None:
        """Take in what is new of it: one that repeats or leaves a gap is no error and changes
        nothing. Raises BadDeltaError or UsageError on what cannot be true."""
        ...

    def advance(self) -> None:
        """Called after each step of the engine."""
        ...

    def complete(self, final: Final) -> bool:
        """Whether nothing is missing any more that the source would send."""
        ...

    def release(self) -> None:
        """Go on from here."""
        ...
