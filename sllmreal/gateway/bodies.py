"""Request bodies of /v1/completions and /v1/chat/completions."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from sllmreal.gateway.backend import Message
from sllmreal.gateway.fields import UNSERVED_BY_BOTH, GenerationBody, Neutral, Strict

MAX_ITEMS = 1_024  # prompts, messages, parts of a message
TokenId = Annotated[int, Field(ge=0, lt=1 << 31)]
TokenIds = Annotated[list[TokenId], Field(fail_fast=True, min_length=1)]
Texts = Annotated[list[str], Field(fail_fast=True, min_length=1, max_length=MAX_ITEMS)]
Prompts = Annotated[list[TokenIds], Field(fail_fast=True, min_length=1, max_length=MAX_ITEMS)]
Prompt = Annotated[str | TokenIds | Texts | Prompts, Field(union_mode="left_to_right")]


class CompletionRequest(GenerationBody):
    """The body of /v1/completions. A list of prompts is answered by `n` choices for each."""

    unserved: ClassVar[Mapping[str, Neutral]] = {
        **UNSERVED_BY_BOTH,
        "echo": (None, False),
        "logprobs": (None,),
        "best_of": (None, 1),
        "suffix": (None, ""),
    }
    prompt: Prompt

    @property
    def prompts(self) -> list[str] | list[list[int]]:
        """Each prompt, as text or as token ids."""
        prompt = self.prompt
        if isinstance(prompt, str):
            return [prompt]
        if isinstance(prompt[0], int):
            return [prompt]
        return prompt


class TextPart(Strict):
    """A text part of a message. Parts of other types are refused."""

    type: Literal["text"]
    text: str


TextParts = Annotated[list[TextPart], Field(fail_fast=True, min_length=1, max_length=MAX_ITEMS)]


class ChatMessage(Strict):
    """A turn of the conversation. `name` is accepted and ignored, as most chat templates do."""

    unserved: ClassVar[Mapping[str, Neutral]] = {
        "tool_calls": (None, []),
        "function_call": (None,),
        "tool_call_id": (None,),
        "refusal": (None,),
        "audio": (None,),
        "annotations": (None, []),
    }
    role: Literal["system", "developer", "user", "assistant"]
    content: str | TextParts
    name: Annotated[str, Field(max_length=512)] | None = None

    @property
    def message(self) -> Message:
        """The turn for the chat template, which knows the role `developer` as `system`."""
        role = "system" if self.role == "developer" else self.role
        if isinstance(self.content, str):
            return Message(role, self.content)
        return Message(role, "\n".join(part.text for part in self.content))


Messages = Annotated[list[ChatMessage], Field(fail_fast=True, min_length=1, max_length=MAX_ITEMS)]


class ChatRequest(GenerationBody):
    """The body of /v1/chat/completions."""

    unserved: ClassVar[Mapping[str, Neutral]] = {
        **UNSERVED_BY_BOTH,
        "logprobs": (None, False),
        "top_logprobs": (None, 0),
        "tools": (None, []),
        "tool_choice": (None, "none", "auto"),
        "parallel_tool_calls": (None, True, False),
        "functions": (None, []),
        "function_call": (None, "none", "auto"),
        "response_format": (None, {"type": "text"}),
        "modalities": (None, ["text"]),
        "store": (None, False),
        "reasoning_effort": (None,),
    }
    messages: Messages
    max_completion_tokens: Annotated[int, Field(ge=1, le=1 << 24)] | None = None

    @property
    def output_limit(self) -> int | None:
        """The maximum of output tokens: `max_completion_tokens`, or the older `max_tokens`."""
        return self.max_completion_tokens or self.max_tokens
