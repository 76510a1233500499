"""The contract of an engine: one loaded model that gives every running request one token per step.

An engine has no clock, no thread and no socket: `step` does one iteration, and its caller sets the
pace. A sequence is a prompt and the output so far, and is *held* or *released*. A held sequence is
prefilled and may be extended by tokens that another engine generated, but generates none itself; a
released sequence generates. A migration consists of these calls only:

    source       sequence S, released         hold(S)  ...  cancel(S)
    destination  start(S, held), extend(S, tokens of the source) ...  release(S)

Generation is a function of (weights, tokens, sampling): randomness at an output index is derived
from (seed, index), so that no random state migrates.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from sllmcore.errors import UsageError

MAX_LOGPROBS = 20  # that of OpenAI's API and of vLLM


class FinishReason(StrEnum):
    """The reason for the end of a sequence, in the terms of the OpenAI API."""

    STOP = "stop"  # a stop token was generated
    LENGTH = "length"  # max_output_tokens, or the context is full


@dataclass(frozen=True, slots=True)
class Sampling:
    """The rule that chooses the next token; `sllmreal.engine.sampling` has its formula.

    With temperature 0 the choice is greedy: top_k, top_p, min_p and seed have no effect.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0
    seed: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()  # token and what is added to its logit
    min_tokens: int = 0  # output tokens before which no stop token is chosen
    logprobs: int | None = None  # likeliest tokens to report with each output token's probability
    forced: tuple[int, ...] = ()  # the output begins with these; none of them is a stop token

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= 100:
            raise UsageError(f"temperature must be in [0, 100], got {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise UsageError(f"top_k must be at least 1, got {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"top_p must be in (0, 1], got {self.top_p}")
        if not 0 <= self.min_p <= 1:
            raise UsageError(f"min_p must be in [0, 1], got {self.min_p}")
        for name in ("presence_penalty", "frequency_penalty"):
            if not -2 <= getattr(self, name) <= 2:
                raise UsageError(f"{name} must be in [-2, 2], got {getattr(self, name)}")
        if not 0 < self.repetition_penalty <= 100:
            raise UsageError(
                f"repetition_penalty must be in (0, 100], got {self.repetition_penalty}"
            )
        if any(token < 0 or not -100 <= bias <= 100 for token, bias in self.logit_bias):
            raise UsageError("logit_bias must have token ids from 0 on, and biases in [-100, 100]")
        if self.min_tokens < 0:
            raise UsageError(f"min_tokens must be at least 0, got {self.min_tokens}")
        if self.logprobs is not None and not 0 <= self.logprobs <= MAX_LOGPROBS:
            raise UsageError(f"logprobs must be in [0, {MAX_LOGPROBS}], got {self.logprobs}")

    @property
    def has_penalties(self) -> bool:
        """True if the choice depends on the tokens before it otherwise than through the logits."""
        return bool(self.presence_penalty or self.frequency_penalty or self.repetition_penalty != 1)

    @property
    def adjusts_logits(self) -> bool:
        """True if the token is not chosen from the model's logits as they are."""
        return self.has_penalties or bool(self.logit_bias) or self.min_tokens > 0


@dataclass(frozen=True, slots=True)
class SequenceSpec:
    """A request as an engine sees it. `output` contains the tokens generated elsewhere before."""

    request_id: str
    prompt: tuple[int, ...]
    max_output_tokens: int
    sampling: Sampling = Sampling()
    stop_tokens: frozenset[int] = frozenset()
    output: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.prompt:
            raise UsageError("a prompt must have at least one token")
        if self.max_output_tokens < 1:
            raise UsageError(f"max_output_tokens must be at least 1, got {self.max_output_tokens}")


@dataclass(frozen=True, slots=True)
class OutputToken:
    """A generated token. `index` counts a sequence's output from 0."""

    request_id: str
    index: int
    token: int
    finish: FinishReason | None = None
    logprobs: bytes = b""  # a record of `sllmreal.engine.logprobs`; empty if not requested


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a sequence. Known tokens are prompt and output; cached ones are computed."""

    num_known: int
    num_cached: int
    num_output: int
    held: bool
    finish: FinishReason | None


@dataclass(frozen=True, slots=True)
class KVBlock:
    """The KV cache of positions [begin, end) of one sequence, as contiguous bytes per layer.

    `layers[i]` is the key and the value of layer i, each of shape (heads, end - begin, head_dim)
    in the engine's dtype and memory order, one after the other.
    """

    begin: int
    end: int
    layers: tuple[memoryview, ...]

    @property
    def num_bytes(self) -> int:
        return sum(layer.nbytes for layer in self.layers)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The capabilities of an engine; callers ask for them, not for its class."""

    model: str  # identity of the weights: a KV cache only migrates between equal ones
    context_tokens: int  # prompt and output together
    num_slots: int  # sequences at once, held ones included
    vocab_size: int
    exports_kv: bool
    kv_bytes_per_token: int  # 0 where the cache cannot be exported
    kv_layout: str  # dtype, layers, heads, head_dim: equal on both sides of a copy


@dataclass(frozen=True, slots=True)
class EngineStatistics:
    """Totals since the engine was made, and its present sequences."""

    num_sequences: int
    num_steps: int
    prefilled_tokens: int
    generated_tokens: int
    model_s: float  # inside the model's forward passes
    step_s: float  # inside `step`
    kv_bytes: int  # of cache in use by sequences


class Engine(Protocol):
    """A ready model. Not thread-safe: one thread calls it.

    Every method that takes a request_id raises UnknownSequenceError for an unknown one.
    """

    @property
    def capabilities(self) -> Capabilities: ...

    def start(
        self, spec: SequenceSpec, *, held: bool = False, compute_until: int | None = None
    ) -> None:
        """Take a slot; later steps prefill.

        While the sequence is held, only positions before `compute_until` are computed, because the
        cache of the others is going to be imported.

        Raises:
            NoSlotError, ContextTooLongError, BadTokenError, UsageError: Nothing has changed.
        """
        ...

    def extend(self, request_id: str, tokens: Sequence[int], logprobs: bytes = b"") -> None:
        """Append output that another engine generated, with its records of log probabilities, to a
        held sequence.

        Raises:
            BadTokenError, ContextTooLongError: Nothing has changed.
            BadStateError: The output has ended; nothing has changed.
            UsageError: The records have a wrong size; nothing has changed.
        """
        ...

    def hold(self, request_id: str) -> Progress:
        """Generate no more for this sequence until it is released. Its cache stays."""
        ...

    def release(self, request_id: str) -> None:
        """Generate from here on.

        The next step computes the tokens that are known but not cached, and the same forward pass
        gives the next token; a tail longer than a chunk takes several steps.
        """
        ...

    def cancel(self, request_id: str) -> None:
        """Forget a sequence, finished or not, and free its slot and cache."""
        ...

    def step(self) -> list[OutputToken]:
        """Do one iteration: at most a chunk of prefill, and one token for each decoding sequence.

        A decoding sequence is released and has all its tokens but the last cached. A finished
        sequence stays, generating nothing, until it is cancelled.
        """
        ...

    @property
    def has_work(self) -> bool:
        """True if a step would compute anything."""
        ...

    def progress(self, request_id: str) -> Progress: ...

    def output(self, request_id: str) -> tuple[int, ...]:
        """Return all output tokens known so far."""
        ...

    def logprobs(self, request_id: str) -> bytes:
        """The records of all output tokens known so far; empty if not requested."""
        ...

    def export_kv(self, request_id: str, begin: int, end: int) -> KVBlock:
        """Return a copy of the cache of these positions, all cached by now."""
        ...

    def import_kv(self, request_id: str, block: KVBlock) -> None:
        """Put a block at its place in a held sequence, so that the cache ends at `block.end`.

        Positions cached from `block.begin` on are replaced. There may be no gap before the block,
        and the known tokens must reach to its end.

        Raises:
            BadStateError: The block does not fit; nothing has changed.
        """
        ...

    def statistics(self) -> EngineStatistics: ...

    def close(self) -> None:
        """Release memory and threads."""
        ...
