"""Log probabilities of tokens as the API reports them, and the two routes' formats of them.

A token is named by its text. In /v1/completions a token that is no whole text is named by its
bytes, as in `bytes:\\xf0\\x9f`; in /v1/chat/completions `bytes` are a field of their own. For a
model without a tokenizer tokens are named as `token_id:7`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from sllmreal.engine.logprobs import TokenLogprob, split_records, unpacked_record
from sllmreal.gateway.backend import Tokenizer

_LEAST = -9999.0  # stands for minus infinity, which JSON lacks; as in vLLM


@dataclass(frozen=True, slots=True)
class NamedLogprob:
    """A token's text, bytes and log probability; None: the prompt's first token has none."""

    content: bytes
    logprob: float | None

    @property
    def text(self) -> str:
        """The token as text; incomplete characters are U+FFFD."""
        return self.content.decode(errors="replace")

    @property
    def name(self) -> str:
        """The token as text, or as its bytes where they are no text."""
        try:
            return self.content.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in self.content)


@dataclass(frozen=True, slots=True)
class TokenScore:
    """An output token, and the likeliest tokens in its place."""

    chosen: NamedLogprob
    likeliest: tuple[NamedLogprob, ...] = ()


class ChatLogprob(msgspec.Struct, frozen=True, omit_defaults=True):
    token: str
    logprob: float | None
    bytes: tuple[int, ...]
    top_logprobs: "tuple[ChatLogprob, ...] | msgspec.UnsetType" = msgspec.UNSET


class ChatLogprobs(msgspec.Struct, frozen=True):
    content: tuple[ChatLogprob, ...]
    refusal: None = None


class TextLogprobs(msgspec.Struct, frozen=True):
    tokens: tuple[str, ...]
    token_logprobs: tuple[float | None, ...]
    top_logprobs: tuple[dict[str, float | None] | None, ...]
    text_offset: tuple[int, ...]  # characters before each token


def scores_of(
    tokens: Sequence[int], records: bytes, tokenizer: Tokenizer | None
) -> tuple[TokenScore, ...]:
    """Return the scores of tokens from their records; none if there are no records."""

    def named(entry: TokenLogprob) -> NamedLogprob:
        logprob = entry.logprob if entry.logprob >= _LEAST else _LEAST  # also for NaN
        return NamedLogprob(token_content(entry.token, tokenizer), logprob)

    unpacked = map(unpacked_record, split_records(records, len(tokens)))
    return tuple(
        TokenScore(named(record.chosen), tuple(map(named, record.likeliest))) for record in unpacked
    )


def token_content(token: int, tokenizer: Tokenizer | None) -> bytes:
    """Return the bytes of a token."""
    return f"token_id:{token}".encode() if tokenizer is None else tokenizer.content(token)


def chat_logprobs(scores: Sequence[TokenScore]) -> ChatLogprobs:
    """Return the `logprobs` of a choice of /v1/chat/completions."""

    def entry(one: NamedLogprob) -> ChatLogprob:
        return ChatLogprob(one.text, one.logprob, tuple(one.content))

    return ChatLogprobs(
        tuple(
            msgspec.structs.replace(
                entry(score.chosen), top_logprobs=tuple(map(entry, score.likeliest))
            )
            for score in scores
        )
    )


def text_logprobs(scores: Sequence[TokenScore], first_offset: int) -> TextLogprobs:
    """Return the `logprobs` of a choice of /v1/completions. The token itself is among the top."""
    offsets, offset = [], first_offset
    for score in scores:
        offsets.append(offset)
        offset += len(score.chosen.text)
    top = (
        None
        if score.chosen.logprob is None
        else {one.name: one.logprob for one in (*score.likeliest, score.chosen)}
        for score in scores
    )
    return TextLogprobs(
        tuple(score.chosen.name for score in scores),
        tuple(score.chosen.logprob for score in scores),
        tuple(top),
        tuple(offsets),
    )
