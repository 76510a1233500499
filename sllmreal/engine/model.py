"""What a slot engine needs of a model: compute tokens, and keep their cache."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from sllmreal.engine.prefill import Prefill
from sllmreal.engine.protocol import Capabilities, KVBlock
from sllmreal.engine.sequence import RunningSequence


class Chosen(NamedTuple):
    """A token, and its record of `sllmreal.engine.logprobs` if requested."""

    token: int
    logprobs: bytes = b""


class Model(Protocol):
    """Weights and caches. It reads sequences and never changes them."""

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def num_layers(self) -> int:
        """Layers of a KV block."""
        ...

    @property
    def model_s(self) -> float:
        """Seconds inside forward passes since the model was made."""
        ...

    def admit(self, sequence: RunningSequence) -> None:
        """Make room for the cache of a sequence; the engine sees to it that a slot is free."""
        ...

    def forget(self, sequence: RunningSequence) -> None:
        """Give that room back."""
        ...

    def prefill(self, rows: Sequence[Prefill]) -> list[Chosen | None]:
        """Compute one, or several that all begin at 0. The tokens that were asked for."""
        ...

    def decode(self, sequences: Sequence[RunningSequence]) -> list[Chosen]:
        """The next token of each: all their tokens but the last are cached."""
        ...

    def export_kv(self, sequence: RunningSequence, begin: int, end: int) -> KVBlock: ...

    def import_kv(self, sequence: RunningSequence, block: KVBlock) -> None:
        """Write a block of the right size. Raises BadStateError where it can tell that the block
        belongs elsewhere, and then has changed nothing."""
        ...

    def close(self) -> None: ...
