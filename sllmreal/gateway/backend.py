"""The gateway's interface to the cluster: one protocol, `Backend`, and its values.

The gateway and the cluster's driver share an event loop, so no method blocks. `submit` returns at
once; the output and the end of a generation come out of its stream. A generation ends in exactly
one way: its last `Generated` has a finish, the stream raises one of the errors below, or the caller
closes the stream, which cancels the generation and frees what it holds.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from sllmcore.errors import ClusterError
from sllmreal.engine.protocol import FinishReason, Sampling
from sllmreal.gateway.model_defaults import ModelDefaults

if TYPE_CHECKING:  # it needs prometheus_client, which a cluster without a gateway lacks
    from sllmreal.gateway.cluster_metrics import ClusterMetrics

GREEDY = Sampling()


@dataclass(frozen=True, slots=True)
class DeployedModel:
    """A model that requests may name. `tenants` may use it; None: all tenants."""

    name: str
    context_tokens: int  # prompt and output together
    created_at_s: float  # Unix time
    owned_by: str = "sllm"
    tenants: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """A request for one sequence: one choice of an API request."""

    request_id: str
    model: str
    tenant: str
    prompt: tuple[int, ...]
    max_output_tokens: int
    sampling: Sampling = GREEDY
    stop_tokens: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Generated:
    """The next tokens of a generation, in order, each once. A stop token is included."""

    tokens: tuple[int, ...]
    finish: FinishReason | None = None
    logprobs: bytes = b""  # a record of `sllmreal.engine.logprobs` for each token, if requested


class RejectedError(ClusterError):
    """The cluster does not accept the request. It may accept it after `retry_after_s` seconds."""

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class TimedOutError(ClusterError):
    """The request waited longer than the cluster's time-out."""


class FailedError(ClusterError):
    """The request was lost, or its model cannot be run. The user sees the reason."""


class OutputStream(Protocol):
    """The output of one generation. Raises RejectedError, TimedOutError or FailedError."""

    def __aiter__(self) -> AsyncIterator[Generated]: ...

    async def __anext__(self) -> Generated: ...

    async def aclose(self) -> None:
        """Cancel the generation if it has not ended. May be called twice."""
        ...


class TokenDecoder(Protocol):
    """Decodes one output, token by token. Text is returned when its characters are complete."""

    def push(self, token: int) -> str: ...

    def flush(self) -> str:
        """Return the rest at the end, with incomplete characters replaced by U+FFFD."""
        ...


@dataclass(frozen=True, slots=True)
class Message:
    """A turn of a conversation. `fields` are others that a chat template may use."""

    role: str
    content: str
    fields: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """Options of a chat template.

    Attributes:
        begins_turn: The prompt ends with the beginning of the assistant's turn.
        continues_last: The prompt ends inside the last message, which the model continues.
        variables: Further variables of the template.
    """

    begins_turn: bool = True
    continues_last: bool = False
    variables: Mapping[str, object] = field(default_factory=dict)


NEXT_TURN = ChatOptions()


class Tokenizer(Protocol):
    """A model's text interface. Every method may be called from any thread."""

    @property
    def vocab_size(self) -> int:
        """Upper bound of token ids, exclusive."""
        ...

    @property
    def stop_tokens(self) -> frozenset[int]:
        """The tokens that end an answer."""
        ...

    @property
    def defaults(self) -> ModelDefaults:
        """The model's defaults for fields that a request leaves out."""
        ...

    def encode(self, text: str, *, special: bool) -> list[int]:
        """Return token ids; `special` adds those that the model expects first, such as BOS."""
        ...

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text without special tokens."""
        ...

    def decoder(self, prompt: Sequence[int]) -> TokenDecoder:
        """Return a decoder of the output that follows this prompt."""
        ...

    def content(self, token: int) -> bytes:
        """Return the bytes of a token's text."""
        ...

    def entries(self, tokens: Sequence[int]) -> list[str]:
        """Return the vocabulary's text of each token."""
        ...

    def chat_prompt(self, messages: Sequence[Message], options: ChatOptions = NEXT_TURN) -> str:
        """Return the prompt in the model's chat format.

        Raises UsageError if the model has no chat template or it refuses the messages.
        """
        ...


@dataclass(frozen=True, slots=True)
class Health:
    """The state of the control plane, as known without waiting for anything.

    `driver_silence_s` is the time since the driver last made progress, or was idle and looked.
    """

    leader_alive: bool
    store_reachable: bool
    num_workers_alive: int
    driver_silence_s: float


class Backend(Protocol):
    """The cluster. Called from the event loop's thread; only `submit` raises, and none waits."""

    def models(self) -> Sequence[DeployedModel]:
        """Return all deployed models."""
        ...

    def model(self, name: str) -> DeployedModel | None:
        """Return the deployed model of this name."""
        ...

    def tokenizer(self, model: str) -> Tokenizer | None:
        """Return the model's tokenizer; None for a model without one."""
        ...

    def submit(self, request: GenerationRequest) -> OutputStream:
        """Begin a generation. Raises the errors of its stream, or leaves them to the stream."""
        ...

    def health(self) -> Health:
        """Return the state of the control plane."""
        ...

    def metrics(self) -> "ClusterMetrics":
        """Return the cluster's metrics at this moment."""
        ...
