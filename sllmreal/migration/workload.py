"""The workloads that can migrate: they have a log of inputs, and a state that follows from it.

A language model's log is its output tokens. Its state is the KV cache, which can be copied, or
computed again from the tokens. A denoising loop has a state that does not follow from a short log:
its log is empty, and it migrates by copies of its state.
"""

from typing import Protocol

from sllmreal.migration.messages import Delta, Final, Position


class SourceWorkload(Protocol):
    """A workload at its source, where it runs while it migrates."""

    @property
    def position(self) -> Position:
        """The present progress."""
        ...

    def delta(self, since: Position, until: Position, max_bytes: int) -> Delta | None:
        """Return the first delta on the way from `since` to `until`; None: nothing is missing."""
        ...

    def hold(self) -> None:
        """Stop at the present position."""
        ...

    def release(self) -> None:
        """Continue after a hold."""
        ...


class DestinationWorkload(Protocol):
    """A workload at its destination, where it is built up before it continues."""

    @property
    def copied(self) -> Position:
        """The progress of the log and of the copied state."""
        ...

    @property
    def ready(self) -> int:
        """Units of the state that need no more work, copied or computed."""
        ...

    @property
    def settled(self) -> bool:
        """True if `ready` does not grow without more deltas."""
        ...

    def absorb(self, delta: Delta) -> None:
        """Apply the new part of a delta.

        A delta that repeats known parts, or that leaves a gap, changes nothing and is no error.

        Raises:
            BadDeltaError: The delta contradicts the workload.
            UsageError: Likewise, found by the engine.
        """
        ...

    def advance(self) -> None:
        """Continue after a step of the engine."""
        ...

    def complete(self, final: Final) -> bool:
        """Return True if the source need not send more."""
        ...

    def release(self) -> None:
        """Continue from here."""
        ...
