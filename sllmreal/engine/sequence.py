"""A running sequence: its known and cached tokens, and the conditions of its end."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from sllmcore.errors import UsageError
from sllmreal.engine.errors import BadStateError, BadTokenError, ContextTooLongError
from sllmreal.engine.logprobs import absent_record, record_bytes, split_records
from sllmreal.engine.protocol import Capabilities, FinishReason, Progress, SequenceSpec


@dataclass(slots=True, eq=False)
class RunningSequence:
    """A sequence in an engine. `tokens` are prompt and output; the first `num_cached` are
    computed."""

    spec: SequenceSpec
    held: bool
    compute_until: int | None = None  # while it is held
    tokens: list[int] = field(init=False)
    num_prompt: int = field(init=False)
    num_cached: int = 0
    finish: FinishReason | None = None
    records: list[bytes] = field(init=False)  # of log probabilities, one for each output token

    def __post_init__(self) -> None:
        self.tokens = [*self.spec.prompt, *self.spec.output]
        self.records = [absent_record(self.spec.sampling)] * len(self.spec.output)
        self.num_prompt = len(self.spec.prompt)

    @property
    def num_output(self) -> int:
        return len(self.tokens) - self.num_prompt

    @property
    def progress(self) -> Progress:
        num_known = len(self.tokens)
        return Progress(
            num_known=num_known,
            num_cached=self.num_cached,
            num_output=self.num_output,
            held=self.held,
            finish=self.finish,
        )

    @property
    def generates(self) -> bool:
        return not self.held and self.finish is None

    @property
    def target(self) -> int:
        """The number of tokens that steps should compute.

        A released sequence: all, because the last one's result is the next token. A held sequence:
            all but
        the last, so that its release needs no special pass, and at most `compute_until`.
        """
        if self.finish is not None:
            return self.num_cached
        if not self.held:
            return len(self.tokens)
        known = len(self.tokens) - 1
        return known if self.compute_until is None else min(known, self.compute_until)


def finish_of(sequence: RunningSequence, context_tokens: int) -> FinishReason | None:
    """Return the reason if the last token ends the sequence; earlier tokens did not end it."""
    spec = sequence.spec
    num_forced = len(spec.sampling.forced)
    if sequence.num_output > num_forced and sequence.tokens[-1] in spec.stop_tokens:
        return FinishReason.STOP
    if sequence.num_output >= spec.max_output_tokens or len(sequence.tokens) >= context_tokens:
        return FinishReason.LENGTH
    return None


def records_of(spec: SequenceSpec, num_tokens: int, records: bytes) -> list[bytes]:
    """Return the record of each token; absent ones if there are none. Raises UsageError."""
    size = num_tokens * record_bytes(spec.sampling)
    if records and len(records) != size:
        raise UsageError(f"records of {num_tokens} tokens have {size} bytes, got {len(records)}")
    return split_records(records, num_tokens) or [absent_record(spec.sampling)] * num_tokens


def check_continued(
    sequence: RunningSequence, tokens: Sequence[int], capabilities: Capabilities
) -> None:
    """Raise unless output of another engine may be appended to the sequence.

    Raises:
        BadStateError: The sequence is not held, or has ended, or would continue after its end.
        BadTokenError, ContextTooLongError: The tokens are no continuation.
    """
    request_id = sequence.spec.request_id
    if not sequence.held:
        raise BadStateError(f"request {request_id} is not held")
    if sequence.finish is not None and tokens:
        raise BadStateError(f"request {request_id} has ended")
    check_continuation(sequence.spec, sequence.num_output, tokens, capabilities)


def check_spec(spec: SequenceSpec, capabilities: Capabilities) -> None:
    """Raise ContextTooLongError, BadTokenError or BadStateError unless an engine can take it."""
    context = capabilities.context_tokens
    if len(spec.prompt) >= context:
        raise ContextTooLongError(
            f"a prompt of {len(spec.prompt)} tokens leaves no room in a context of {context}"
        )
    _check_vocabulary(spec.prompt, capabilities.vocab_size)
    sampling = spec.sampling
    _check_vocabulary([token for token, _ in sampling.logit_bias], capabilities.vocab_size)
    _check_vocabulary(sampling.forced, capabilities.vocab_size)
    if (sampling.logprobs or 0) > capabilities.vocab_size:
        raise UsageError(
            f"logprobs must be at most the vocabulary's {capabilities.vocab_size}, "
            f"got {sampling.logprobs}"
        )
    check_continuation(spec, 0, spec.output, capabilities)


def check_continuation(
    spec: SequenceSpec, num_output: int, tokens: Sequence[int], capabilities: Capabilities
) -> None:
    """Raise unless `tokens` may follow the output: no token may follow a stop token."""
    _check_vocabulary(tokens, capabilities.vocab_size)
    total = num_output + len(tokens)
    if len(spec.prompt) + total > capabilities.context_tokens:
        raise ContextTooLongError(
            f"{len(spec.prompt)} + {total} tokens exceed a context of {capabilities.context_tokens}"
        )
    if total > spec.max_output_tokens:
        raise BadStateError(f"{total} output tokens exceed the limit of {spec.max_output_tokens}")
    num_forced = max(0, len(spec.sampling.forced) - num_output)  # of these tokens
    if not spec.stop_tokens.isdisjoint(tokens[num_forced:-1]):
        raise BadStateError("the output continues after a stop token")


def _check_vocabulary(tokens: Sequence[int], vocab_size: int) -> None:
    if tokens and (min(tokens) < 0 or max(tokens) >= vocab_size):
        bad = next(token for token in tokens if not 0 <= token < vocab_size)
        raise BadTokenError(f"token {bad} is not in a vocabulary of {vocab_size}")
