"""Messages of a conversation, as clients send them."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

import msgspec
from pydantic import Field, model_validator

from sllmreal.gateway.backend import Message
from sllmreal.gateway.errors import ApiError, bad_request
from sllmreal.gateway.fields import Strict
from sllmreal.gateway.unserved import Unserved

MAX_ITEMS = 1_024  # messages, parts of a message, tools
# Types of parts that are refused, and the beginning of the refusal.
CONTENT_KINDS = {
    "image_url": "Images are",
    "input_image": "Images are",
    "image": "Images are",
    "input_audio": "Audio is",
    "audio_url": "Audio is",
    "video_url": "Video is",
    "file": "Files are",
}


class TextPart(Strict):
    """A text part of a message. Parts of other types are refused."""

    informing: ClassVar[frozenset[str]] = frozenset({"cache_control", "annotations"})
    type: Literal["text"]
    text: str

    @model_validator(mode="before")
    @classmethod
    def _check_kind(cls, data: object) -> object:
        kind = data.get("type") if isinstance(data, dict) else None
        if isinstance(kind, str) and kind in CONTENT_KINDS:
            message = (
                f"{CONTENT_KINDS[kind]} not supported by this server, which has text models only: "
                f"a message has a part of type {kind!r}; send parts of type 'text'."
            )
            raise bad_request(message, "messages", "unsupported_content")
        return data


TextParts = Annotated[list[TextPart], Field(fail_fast=True, min_length=1, max_length=MAX_ITEMS)]


class CalledFunction(Strict):
    """The function of a tool call; `arguments` are JSON."""

    name: Annotated[str, Field(max_length=512)]
    arguments: str


class ToolCall(Strict):
    """A call of a tool, in an assistant's turn of the history."""

    informing: ClassVar[frozenset[str]] = frozenset({"index"})
    id: Annotated[str, Field(max_length=512)] | None = None
    type: Literal["function"] = "function"
    function: CalledFunction

    @property
    def for_template(self) -> dict[str, object]:
        """The call with its arguments decoded, as chat templates expect it."""
        try:
            arguments: object = msgspec.json.decode(self.function.arguments or "{}")
        except (msgspec.DecodeError, RecursionError) as error:
            message = f"The arguments of tool call {self.function.name!r} are no JSON: {error}."
            raise bad_request(message, "messages") from None
        function = {"name": self.function.name, "arguments": arguments}
        return {"id": self.id, "type": self.type, "function": function}


class ChatMessage(Strict):
    """A turn of the conversation."""

    unserved: ClassVar[Mapping[str, Unserved]] = {
        "function_call": Unserved("functions have become tools; use tool_calls"),
        "refusal": Unserved("templates do not show refusals; send the text as content"),
        "audio": Unserved("models take text only"),
    }
    informing: ClassVar[frozenset[str]] = frozenset({"annotations"})
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | TextParts | None = None
    name: Annotated[str, Field(max_length=512)] | None = None
    tool_calls: Annotated[list[ToolCall], Field(fail_fast=True, max_length=MAX_ITEMS)] | None = None
    tool_call_id: Annotated[str, Field(max_length=512)] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None  # vLLM's name of it

    @model_validator(mode="after")
    def _check_role(self) -> Self:
        if self.content is None and self.role != "assistant":
            raise _bad(f"A message of role {self.role!r} must have content; send a text.")
        if self.tool_calls and self.role != "assistant":
            raise _bad(f"A message of role {self.role!r} must not have tool_calls; remove them.")
        return self

    @property
    def message(self) -> Message:
        """The turn for the chat template, which knows the role `developer` as `system`."""
        content = self.content or ""  # of an assistant that only called tools, or was cut off
        if not isinstance(content, str):
            content = "\n".join(part.text for part in content)
        fields: dict[str, Any] = {
            "name": self.name,
            "tool_calls": [call.for_template for call in self.tool_calls or []] or None,
            "tool_call_id": self.tool_call_id,
            "reasoning_content": self.reasoning_content or self.reasoning,
        }
        known = {name: value for name, value in fields.items() if value is not None}
        return Message("system" if self.role == "developer" else self.role, content, known)


Messages = Annotated[list[ChatMessage], Field(fail_fast=True, min_length=1, max_length=MAX_ITEMS)]


def _bad(message: str) -> ApiError:
    return bad_request(message, "messages")
