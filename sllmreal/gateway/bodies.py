"""Request bodies of /v1/completions and /v1/chat/completions."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from sllmreal.engine.protocol import MAX_LOGPROBS
from sllmreal.gateway.backend import ChatOptions
from sllmreal.gateway.errors import bad_request, unsupported
from sllmreal.gateway.fields import GenerationBody, TokenId
from sllmreal.gateway.messages import MAX_ITEMS, Messages
from sllmreal.gateway.unserved import UNSERVED_BY_CHAT, UNSERVED_BY_COMPLETIONS, Unserved

MAX_PROMPTS = 1 << 14
TokenIds = Annotated[list[TokenId], Field(fail_fast=True, min_length=1)]
Texts = Annotated[list[str], Field(fail_fast=True, min_length=1, max_length=MAX_PROMPTS)]
Prompts = Annotated[list[TokenIds], Field(fail_fast=True, min_length=1, max_length=MAX_PROMPTS)]
Prompt = Annotated[str | TokenIds | Texts | Prompts, Field(union_mode="left_to_right")]
NumLogprobs = Annotated[int, Field(ge=0, le=MAX_LOGPROBS)]
Variables = Annotated[dict[str, Any], Field(max_length=64)]
# Names that the gateway itself gives to a chat template.
_RESERVED = ("messages", "add_generation_prompt", "continue_final_message")


class CompletionRequest(GenerationBody):
    """The body of /v1/completions. A list of prompts is answered by `n` choices for each."""

    unserved: ClassVar[Mapping[str, Unserved]] = UNSERVED_BY_COMPLETIONS
    prompt: Prompt
    echo: bool | None = None  # return the prompt's text before the output's
    logprobs: NumLogprobs | None = None  # with `echo` also of the prompt

    @property
    def num_logprobs(self) -> int | None:
        """`logprobs`."""
        return self.logprobs

    @property
    def may_generate_nothing(self) -> bool:
        """True with `echo`, which returns the prompt."""
        return bool(self.echo)

    @property
    def prompts(self) -> list[str] | list[list[int]]:
        """Each prompt, as text or as token ids."""
        prompt = self.prompt
        if isinstance(prompt, str):
            return [prompt]
        if isinstance(prompt[0], int):
            return [prompt]
        return prompt


class ChatRequest(GenerationBody):
    """The body of /v1/chat/completions."""

    unserved: ClassVar[Mapping[str, Unserved]] = UNSERVED_BY_CHAT
    messages: Messages
    max_completion_tokens: Annotated[int, Field(ge=1, le=1 << 24)] | None = None
    # Tools are accepted where the model shall not call them.
    tools: Annotated[list[dict[str, Any]], Field(fail_fast=True, max_length=MAX_ITEMS)] | None = (
        None
    )
    tool_choice: str | dict[str, Any] | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: Variables | None = None
    reasoning_effort: Annotated[str, Field(max_length=64)] | None = None  # for the template
    logprobs: bool | None = None
    top_logprobs: NumLogprobs | None = None

    @model_validator(mode="after")
    def _check_logprobs(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            message = "top_logprobs requires logprobs to be true; set it or remove top_logprobs."
            raise bad_request(message, "top_logprobs")
        return self

    @property
    def num_logprobs(self) -> int | None:
        """`top_logprobs` if log probabilities are requested."""
        return (self.top_logprobs or 0) if self.logprobs else None

    @model_validator(mode="after")
    def _check_tools(self) -> Self:
        if self.tools and self.tool_choice != "none":
            reason = "calls of tools are not parsed; tools are accepted with tool_choice 'none'"
            raise unsupported("tools", reason)
        if self.tool_choice not in (None, "none", "auto"):
            raise unsupported("tool_choice", "calls of tools are not parsed")
        return self

    @property
    def output_limit(self) -> int | None:
        """The maximum of output tokens: `max_completion_tokens`, or the older `max_tokens`."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def options(self) -> ChatOptions:
        """The options of the chat template. Raises ApiError (400) where they contradict."""
        return chat_options(self)


def chat_options(body: Any) -> ChatOptions:
    """Return the options of a body with the template's fields. Raises ApiError (400)."""
    variables = dict(body.chat_template_kwargs or {})
    for name in _RESERVED:
        if name in variables:
            message = f"chat_template_kwargs must not have {name}; the request has it by itself."
            raise bad_request(message, "chat_template_kwargs")
    if body.continue_final_message and body.add_generation_prompt:
        message = (
            "continue_final_message and add_generation_prompt exclude each other; "
            "set one of them to false."
        )
        raise bad_request(message, "continue_final_message")
    effort = getattr(body, "reasoning_effort", None)
    if effort is not None:
        variables.setdefault("reasoning_effort", effort)
    begins_turn = body.add_generation_prompt is not False and not body.continue_final_message
    return ChatOptions(begins_turn, bool(body.continue_final_message), variables)
