"""What the gateway knows of the cluster behind it: one small protocol, and the values it speaks in.

The gateway and the cluster's driver share an event loop. Nothing here blocks: `submit` returns at
once, and what happens to a submission comes out of its stream. A submission ends in exactly one
way: its last `Generated` has a finish, the stream raises one of the errors below, or it is closed,
which cancels it and frees what it held.
"""

from bisect import bisect_left
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from sllmcore.errors import ClusterError
from sllmreal.control.messages import BUCKETS_S
from sllmreal.engine.protocol import FinishReason, Sampling

GREEDY = Sampling()


@dataclass(frozen=True, slots=True)
class DeployedModel:
    """A model that requests may name. `tenants` are those who may see it, None for everybody."""

    name: str
    context_tokens: int  # prompt and output together
    created_at_s: float  # Unix time
    owner: str = "sllm"
    tenants: frozenset[str] | None = None
    has_chat_template: bool = False


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One sequence to generate: a choice of a request."""

    request_id: str
    model: str
    tenant: str
    prompt: tuple[int, ...]
    max_output_tokens: int
    sampling: Sampling = GREEDY
    stop_tokens: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Generated:
    """Further tokens of a submission, in order, each given once. A stop token is among them."""

    tokens: tuple[int, ...]
    finish: FinishReason | None = None


class RejectedError(ClusterError):
    """The cluster does not take the submission. `retry_after_s` is when it might."""

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class TimedOutError(ClusterError):
    """The submission waited longer than the cluster lets it."""


class FailedError(ClusterError):
    """The submission was lost, or its model cannot be run. The reason is shown to the user."""


class OutputStream(Protocol):
    """The output of one submission. Raises RejectedError, TimedOutError or FailedError."""

    def __aiter__(self) -> AsyncIterator[Generated]: ...

    async def __anext__(self) -> Generated: ...

    async def aclose(self) -> None:
        """Cancel the submission if it has not ended. May be called twice."""
        ...


class TokenDecoder(Protocol):
    """Turns one output into text, token by token. Text comes when its characters are complete."""

    def push(self, token: int) -> str: ...

    def flush(self) -> str:
        """What is left at the end, incomplete characters replaced by U+FFFD."""
        ...


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str


class Tokenizer(Protocol):
    """A model's text interface. Every method may be called from any thread."""

    @property
    def vocab_size(self) -> int:
        """Token ids lie below it."""
        ...

    @property
    def stop_tokens(self) -> frozenset[int]:
        """The tokens that end an answer."""
        ...

    def encode(self, text: str, *, special: bool) -> list[int]:
        """Token ids; `special` adds what the model wants at the beginning, such as BOS."""
        ...

    def decode(self, tokens: Sequence[int]) -> str:
        """Text without special tokens."""
        ...

    def decoder(self, prompt: Sequence[int]) -> TokenDecoder:
        """A decoder of the output that follows this prompt."""
        ...

    def chat_prompt(self, messages: Sequence[Message]) -> str:
        """The conversation as the model wants it, up to where the assistant speaks.

        Raises UsageError where the model's template refuses the messages or there is none.
        """
        ...


@dataclass(frozen=True, slots=True)
class Health:
    """What of the control plane works. Told without asking others: `health` never waits.

    `driver_silence_s` is the time since the driver last made progress, or was idle and looked.
    """

    leader_alive: bool
    store_reachable: bool
    num_workers_alive: int
    driver_silence_s: float


@dataclass(frozen=True, slots=True)
class BucketCounts:
    """Durations counted into BUCKETS_S, the last count being of those beyond; and their sum."""

    counts: tuple[int, ...] = (0,) * (len(BUCKETS_S) + 1)
    total_s: float = 0.0

    def plus(self, value_s: float) -> "BucketCounts":
        """With one more duration."""
        place = bisect_left(BUCKETS_S, value_s)
        counts = (*self.counts[:place], self.counts[place] + 1, *self.counts[place + 1 :])
        return replace(self, counts=counts, total_s=self.total_s + value_s)


@dataclass(frozen=True, slots=True)
class ModelSnapshot:
    """One model at this moment, and how long its requests waited and were prefilled so far."""

    name: str
    num_running: int
    num_waiting: int
    kv_cache_share: float  # in [0, 1]
    num_preemptions: int = 0
    queue: BucketCounts = BucketCounts()
    prefill: BucketCounts = BucketCounts()


@dataclass(frozen=True, slots=True)
class ColdStartMetrics:
    """Cold starts so far whose bytes came from `tier`, and how long one phase of them took."""

    tier: str
    phase: str
    durations: BucketCounts


@dataclass(frozen=True, slots=True)
class ClusterMetrics:
    """The cluster for the metrics page. Everything but `models` counts since the start."""

    models: tuple[ModelSnapshot, ...] = ()
    cold_starts: tuple[ColdStartMetrics, ...] = ()
    bytes_loaded: Mapping[str, int] = field(default_factory=dict)  # by source tier
    migrations: Mapping[str, int] = field(default_factory=dict)  # by outcome
    recomputed_tokens: int = 0
    leader_changes: int = 0


class Backend(Protocol):
    """The cluster. Called from the event loop's thread; no method waits or raises, but `submit`."""

    def models(self) -> Sequence[DeployedModel]: ...

    def model(self, name: str) -> DeployedModel | None: ...

    def tokenizer(self, model: str) -> Tokenizer | None:
        """None for a model that speaks token ids only."""
        ...

    def submit(self, submission: GenerationRequest) -> OutputStream:
        """Begin. Raises what a stream raises, or leaves it to the stream."""
        ...

    def health(self) -> Health: ...

    def snapshot(self) -> ClusterMetrics: ...
