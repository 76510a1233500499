"""The model interface of the slot engine: it computes tokens and keeps their cache."""

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
    """Weights and caches. A model reads sequences and never changes them."""

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def num_layers(self) -> int:
        """The number of layers of a KV block."""
        ...

    @property
    def model_s(self) -> float:
        """Seconds inside forward passes since the model was made."""
        ...

    def admit(self, sequence: RunningSequence) -> None:
        """Reserve the cache of a sequence; the engine has a free slot."""
        ...

    def forget(self, sequence: RunningSequence) -> None:
        """Release the cache of a sequence."""
        ...

    def prefill(self, rows: Sequence[Prefill]) -> list[Chosen | None]:
        """Compute one row, or several that all begin at 0; return the tokens that rows ask for."""
        ...

    def decode(self, sequences: Sequence[RunningSequence]) -> list[Chosen]:
        """Return the next token of each sequence: all its tokens but the last are cached."""
        ...

    def export_kv(self, sequence: RunningSequence, begin: int, end: int) -> KVBlock: ...

    def import_kv(self, sequence: RunningSequence, block: KVBlock) -> None:
        """Write a block of the right size. Raises BadStateError where it can see that the block
        belongs elsewhere, and then has changed nothing."""
        ...

    def close(self) -> None: ...
