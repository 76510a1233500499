"""Response bodies of the two generating routes, whole and streamed, as in OpenAI's API."""

from dataclasses import dataclass
from typing import Literal, Protocol

import msgspec
from msgspec import UNSET, UnsetType

from sllmreal.gateway.token_scores import (
    ChatLogprobs,
    TextLogprobs,
    TokenScore,
    chat_logprobs,
    text_logprobs,
)

DONE = b"data: [DONE]\n\n"
UsageInStream = Literal["never", "at the end", "always"]


class Usage(msgspec.Struct, frozen=True):
    """Tokens of a request: of its prompts, and of all its choices."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of a choice. The last piece has a `finish`, and may have text that was held back."""

    index: int
    text: str
    tokens: tuple[int, ...]
    finish: str | None = None
    scores: tuple[TokenScore, ...] = ()  # if log probabilities are requested
    offset: int = 0  # characters of the tokens before, for /v1/completions


class TextChoice(msgspec.Struct, frozen=True):
    text: str
    index: int
    logprobs: TextLogprobs | None = None
    finish_reason: str | None = None
    token_ids: tuple[int, ...] | UnsetType = UNSET


class TextCompletion(msgspec.Struct, frozen=True):
    id: str
    object: str
    created: int
    model: str
    choices: tuple[TextChoice, ...]
    usage: Usage | UnsetType | None = UNSET


class ChatText(msgspec.Struct, frozen=True):
    role: str | UnsetType = UNSET
    content: str | UnsetType = UNSET


class ChatChoice(msgspec.Struct, frozen=True):
    index: int
    message: ChatText | UnsetType = UNSET
    delta: ChatText | UnsetType = UNSET
    logprobs: ChatLogprobs | None = None
    finish_reason: str | None = None
    token_ids: tuple[int, ...] | UnsetType = UNSET


class ChatCompletion(msgspec.Struct, frozen=True):
    id: str
    object: str
    created: int
    model: str
    choices: tuple[ChatChoice, ...]
    usage: Usage | UnsetType | None = UNSET


@dataclass(frozen=True, slots=True)
class Heading:
    """The fields of every response to one request, and the options that it asked for."""

    id: str
    created: int
    model: str
    token_ids: bool  # include token ids beside the text
    usage: UsageInStream
    logprobs: bool = False  # include log probabilities


class ResponseFormat(Protocol):
    """The response bodies of one route."""

    @property
    def heading(self) -> Heading: ...

    def opening(self, index: int) -> bytes:
        """Return the events before a choice's first delta."""
        ...

    def piece(self, delta: Delta, so_far: Usage) -> bytes:
        """Return the events of a delta; `so_far` is the usage of all choices, including it."""
        ...

    def closing(self, usage: Usage) -> bytes:
        """Return the events after the end of the last choice."""
        ...

    def whole(self, choices: list[Delta], usage: Usage) -> bytes:
        """Return the whole response as JSON."""
        ...


@dataclass(frozen=True, slots=True)
class CompletionFormat:
    """Response bodies of /v1/completions."""

    heading: Heading

    def opening(self, index: int) -> bytes:
        return b""

    def piece(self, delta: Delta, so_far: Usage) -> bytes:
        shown = so_far if self.heading.usage == "always" else None
        events = b""
        if delta.text or delta.scores or (delta.tokens and self.heading.token_ids):
            choice = TextChoice(
                delta.text,
                delta.index,
                self._logprobs(delta),
                token_ids=_ids(self.heading, delta.tokens),
            )
            events = self._event((choice,), shown)
        if delta.finish is not None:
            end = TextChoice("", delta.index, finish_reason=delta.finish)
            events += self._event((end,), shown)
        return events

    def closing(self, usage: Usage) -> bytes:
        return (b"" if self.heading.usage == "never" else self._event((), usage)) + DONE

    def whole(self, choices: list[Delta], usage: Usage) -> bytes:
        answers = tuple(
            TextChoice(
                choice.text,
                choice.index,
                self._logprobs(choice),
                finish_reason=choice.finish,
                token_ids=_ids(self.heading, choice.tokens),
            )
            for choice in choices
        )
        return msgspec.json.encode(self._object(answers, usage))

    def _logprobs(self, delta: Delta) -> TextLogprobs | None:
        return text_logprobs(delta.scores, delta.offset) if self.heading.logprobs else None

    def _event(self, choices: tuple[TextChoice, ...], usage: Usage | None = None) -> bytes:
        shown = UNSET if self.heading.usage == "never" else usage
        return b"data: " + msgspec.json.encode(self._object(choices, shown)) + b"\n\n"

    def _object(
        self, choices: tuple[TextChoice, ...], usage: Usage | UnsetType | None
    ) -> TextCompletion:
        heading = self.heading
        return TextCompletion(
            id=heading.id,
            object="text_completion",
            created=heading.created,
            model=heading.model,
            choices=choices,
            usage=usage,
        )


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """Response bodies of /v1/chat/completions."""

    heading: Heading

    def opening(self, index: int) -> bytes:
        return self._event((ChatChoice(index, delta=ChatText("assistant", "")),))

    def piece(self, delta: Delta, so_far: Usage) -> bytes:
        shown = so_far if self.heading.usage == "always" else None
        events = b""
        if delta.text or delta.scores or (delta.tokens and self.heading.token_ids):
            choice = ChatChoice(
                delta.index,
                delta=ChatText(content=delta.text),
                logprobs=self._logprobs(delta),
                token_ids=_ids(self.heading, delta.tokens),
            )
            events = self._event((choice,), shown)
        if delta.finish is not None:
            end = ChatChoice(delta.index, delta=ChatText(), finish_reason=delta.finish)
            events += self._event((end,), shown)
        return events

    def closing(self, usage: Usage) -> bytes:
        return (b"" if self.heading.usage == "never" else self._event((), usage)) + DONE

    def whole(self, choices: list[Delta], usage: Usage) -> bytes:
        answers = tuple(
            ChatChoice(
                choice.index,
                message=ChatText("assistant", choice.text),
                logprobs=self._logprobs(choice),
                finish_reason=choice.finish,
                token_ids=_ids(self.heading, choice.tokens),
            )
            for choice in choices
        )
        return msgspec.json.encode(self._object("chat.completion", answers, usage))

    def _logprobs(self, delta: Delta) -> ChatLogprobs | None:
        return chat_logprobs(delta.scores) if self.heading.logprobs else None

    def _event(self, choices: tuple[ChatChoice, ...], usage: Usage | None = None) -> bytes:
        shown = UNSET if self.heading.usage == "never" else usage
        answer = self._object("chat.completion.chunk", choices, shown)
        return b"data: " + msgspec.json.encode(answer) + b"\n\n"

    def _object(
        self, kind: str, choices: tuple[ChatChoice, ...], usage: Usage | UnsetType | None
    ) -> ChatCompletion:
        heading = self.heading
        return ChatCompletion(
            id=heading.id,
            object=kind,
            created=heading.created,
            model=heading.model,
            choices=choices,
            usage=usage,
        )


def _ids(heading: Heading, tokens: tuple[int, ...]) -> tuple[int, ...] | UnsetType:
    return tokens if heading.token_ids else UNSET
