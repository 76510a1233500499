"""/tokenize and /detokenize: a model's tokenizer over HTTP, in vLLM's format."""

import asyncio
from collections.abc import Mapping
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from sllmreal.gateway.backend import Backend, DeployedModel, Tokenizer
from sllmreal.gateway.bodies import Variables, chat_options
from sllmreal.gateway.errors import bad_request
from sllmreal.gateway.fields import Strict, TokenId
from sllmreal.gateway.messages import Messages
from sllmreal.gateway.planner import chat_text, checked_ids, no_tokenizer, prompt_tokens
from sllmreal.gateway.unserved import UNSERVED_BY_CHAT, Unserved

Model = Annotated[str, Field(min_length=1, max_length=512)]


class TokenizeRequest(Strict):
    """The body of /tokenize: a text or a conversation."""

    unserved: ClassVar[Mapping[str, Unserved]] = {
        name: UNSERVED_BY_CHAT[name]
        for name in ("chat_template", "media_io_kwargs", "mm_processor_kwargs")
    }
    model: Model
    prompt: str | None = None
    messages: Messages | None = None
    add_special_tokens: bool | None = None  # None: True for a text, False for a conversation
    return_token_strs: bool | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: Variables | None = None

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise bad_request("Send either prompt or messages, and not both.", "prompt")
        return self


class DetokenizeRequest(Strict):
    """The body of /detokenize."""

    model: Model
    tokens: Annotated[list[TokenId], Field(fail_fast=True)]


async def tokenized(
    body: TokenizeRequest, model: DeployedModel, backend: Backend
) -> dict[str, object]:
    """Return the answer of /tokenize. Raises ApiError."""
    tokenizer = _tokenizer(model, backend)
    text, special = body.prompt, body.add_special_tokens
    if body.messages is not None:
        text = await chat_text(tokenizer, body.messages, chat_options(body))
    by_default = body.messages is None
    tokens: list[int] = []
    if text:
        special = by_default if special is None else special
        tokens = await prompt_tokens(tokenizer, model.name, text, special=special)
    return {
        "count": len(tokens),
        "max_model_len": model.context_tokens,
        "tokens": tokens,
        "token_strs": tokenizer.entries(tokens) if body.return_token_strs else None,
    }


async def detokenized(
    body: DetokenizeRequest, model: DeployedModel, backend: Backend
) -> dict[str, object]:
    """Return the answer of /detokenize. Raises ApiError."""
    tokenizer = _tokenizer(model, backend)
    tokens = checked_ids(body.tokens, tokenizer, "tokens") if body.tokens else []
    return {"prompt": await asyncio.to_thread(tokenizer.decode, tokens)}


def _tokenizer(model: DeployedModel, backend: Backend) -> Tokenizer:
    tokenizer = backend.tokenizer(model.name)
    if tokenizer is None:
        raise no_tokenizer(model.name)
    return tokenizer
