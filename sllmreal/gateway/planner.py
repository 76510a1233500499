"""From a checked body to the requests of its choices: model, tokens of the prompt, limits."""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sllmcore.errors import UsageError
from sllmreal.engine.protocol import Sampling
from sllmreal.gateway.backend import Backend, DeployedModel, GenerationRequest, Tokenizer
from sllmreal.gateway.bodies import ChatRequest, CompletionRequest
from sllmreal.gateway.errors import ApiError, bad_request, unknown_model
from sllmreal.gateway.fields import GenerationBody
from sllmreal.gateway.generation import GenerationPlan
from sllmreal.gateway.keys import Principal
from sllmreal.gateway.model_defaults import ModelDefaults
from sllmreal.gateway.settings import Limits

DEFAULT_COMPLETION_TOKENS = 16  # OpenAI's default of max_tokens for completions
# Tokenizing a shorter text takes less than a millisecond; a longer one is tokenized in a thread.
_INLINE_CHARS = 2_048
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _OutputLimit:
    """Maximum of output tokens: as requested (None if not), and as assumed then."""

    requested: int | None
    default: int


class Planner:
    """Makes plans for one principal's requests. Every method raises ApiError."""

    def __init__(self, backend: Backend, limits: Limits, principal: Principal) -> None:
        self._backend = backend
        self._limits = limits
        self._principal = principal

    def model(self, name: str) -> DeployedModel:
        """Return the model of this name. Raises 404 if the principal may not use it."""
        model = self._backend.model(name)
        if model is None or not self._principal.sees(model):
            raise unknown_model(name)
        return model

    async def completion(self, body: CompletionRequest, request_id: str) -> GenerationPlan:
        """Return a plan with `n` choices for each prompt, prompt by prompt."""
        model = self.model(body.model)
        self._check_limits(body, len(body.prompts))
        tokenizer = self._backend.tokenizer(model.name)
        prompts = []
        for prompt in body.prompts:
            if isinstance(prompt, str):
                prompts.append(await _tokens(tokenizer, model.name, prompt, special=True))
            else:
                prompts.append(_checked_ids(prompt, tokenizer))
        default = _defaults(tokenizer).max_tokens or DEFAULT_COMPLETION_TOKENS
        output_limit = _OutputLimit(body.max_tokens, default)
        return self._plan(body, model, prompts, request_id, output_limit)

    async def chat(self, body: ChatRequest, request_id: str) -> GenerationPlan:
        """Return a plan with `n` answers to a conversation."""
        model = self.model(body.model)
        self._check_limits(body, 1)
        tokenizer = self._backend.tokenizer(model.name)
        if tokenizer is None:
            raise _no_tokenizer(model.name)
        messages = [turn.message for turn in body.messages]
        num_chars = sum(len(turn.content) for turn in messages)
        try:
            text = await _run(num_chars, lambda: tokenizer.chat_prompt(messages))
        except UsageError as error:
            raise bad_request(str(error), "messages") from error
        prompt = await _tokens(tokenizer, model.name, text, special=False)
        default = tokenizer.defaults.max_tokens or model.context_tokens
        output_limit = _OutputLimit(body.output_limit, default)
        return self._plan(body, model, [prompt], request_id, output_limit)

    def _check_limits(self, body: GenerationBody, num_prompts: int) -> None:
        limits, num_choices = self._limits, num_prompts * (body.n or 1)
        if num_choices > limits.choices:
            message = (
                f"prompts times n is {num_choices} and may be {limits.choices}; "
                "send several requests."
            )
            raise bad_request(message, "n")
        if len(body.stop_strings) > limits.stop_strings:
            message = (
                f"stop has {len(body.stop_strings)} strings and may have {limits.stop_strings}; "
                "remove some."
            )
            raise bad_request(message, "stop")
        longest = max(map(len, body.stop_strings), default=0)
        if longest > limits.stop_chars:
            message = (
                f"A stop string has {longest} characters and may have {limits.stop_chars}; "
                "shorten it."
            )
            raise bad_request(message, "stop")

    def _plan(
        self,
        body: GenerationBody,
        model: DeployedModel,
        prompts: Sequence[list[int]],
        request_id: str,
        output_limit: _OutputLimit,
    ) -> GenerationPlan:
        tokenizer = self._backend.tokenizer(model.name)
        if tokenizer is None and body.stop_strings:
            message = (
                f"The model {model.name!r} has no tokenizer to find stop strings; remove stop."
            )
            raise bad_request(message, "stop")
        stop_tokens = frozenset[int]() if tokenizer is None else tokenizer.stop_tokens
        defaults = _defaults(tokenizer)
        seed = secrets.randbits(62) if body.seed is None else body.seed
        num_choices = body.n or 1
        requests = tuple(
            GenerationRequest(
                f"{request_id}-{number * num_choices + choice}",
                model.name,
                self._principal.tenant,
                tuple(prompt),
                self._output_tokens(len(prompt), model, output_limit),
                _sampling(body, defaults, seed + choice),
                frozenset() if body.ignore_eos else stop_tokens,
            )
            for number, prompt in enumerate(prompts)
            for choice in range(num_choices)
        )
        return GenerationPlan(requests, tokenizer, body.stop_strings, sum(map(len, prompts)))

    def _output_tokens(
        self, num_prompt: int, model: DeployedModel, output_limit: _OutputLimit
    ) -> int:
        """Return the maximum of output tokens. One that was requested is not reduced: it raises."""
        limits, requested = self._limits, output_limit.requested
        if num_prompt > limits.prompt_tokens:
            message = (
                f"The prompt has {num_prompt} tokens and may have {limits.prompt_tokens}; "
                "shorten it."
            )
            raise bad_request(message, "prompt")
        num_left = model.context_tokens - num_prompt
        if num_left < 1 or (requested is not None and requested > num_left):
            message = (
                f"This model's maximum context length is {model.context_tokens} tokens, and the "
                f"request has {num_prompt} in the prompt and {requested or 1} for the answer; "
                "shorten the prompt or lower max_tokens."
            )
            raise bad_request(message, None, "context_length_exceeded")
        if requested is not None and requested > limits.output_tokens:
            message = f"max_tokens is {requested} and may be {limits.output_tokens}; lower it."
            raise bad_request(message, "max_tokens")
        wanted = output_limit.default if requested is None else requested
        return min(wanted, num_left, limits.output_tokens)


def _defaults(tokenizer: Tokenizer | None) -> ModelDefaults:
    return ModelDefaults() if tokenizer is None else tokenizer.defaults


def _sampling(body: GenerationBody, defaults: ModelDefaults, seed: int) -> Sampling:
    """Return the sampling: fields of the request, else the model's defaults, else OpenAI's."""
    top_k = _first(body.top_k, defaults.top_k, 0)
    return Sampling(
        temperature=_first(body.temperature, defaults.temperature, 1.0),
        top_k=top_k if top_k > 0 else None,
        top_p=_first(body.top_p, defaults.top_p, 1.0),
        seed=seed,
    )


def _first(requested: T | None, default: T | None, otherwise: T) -> T:
    if requested is not None:
        return requested
    return otherwise if default is None else default


async def _tokens(
    tokenizer: Tokenizer | None, model: str, text: str, *, special: bool
) -> list[int]:
    if tokenizer is None:
        raise _no_tokenizer(model)
    tokens = await _run(len(text), lambda: tokenizer.encode(text, special=special))
    if not tokens:
        raise bad_request("The prompt is empty; it must have at least one token.", "prompt")
    return tokens


def _checked_ids(prompt: list[int], tokenizer: Tokenizer | None) -> list[int]:
    if tokenizer is not None and max(prompt) >= tokenizer.vocab_size:
        message = f"token ids must be below {tokenizer.vocab_size}, got {max(prompt)}"
        raise bad_request(message, "prompt")
    return prompt


def _no_tokenizer(model: str) -> ApiError:
    message = (
        f"The model {model!r} has no tokenizer; send its prompts to /v1/completions as lists of "
        "token ids."
    )
    return bad_request(message, "prompt", "text_not_supported")


async def _run(num_chars: int, work: Callable[[], T]) -> T:
    """Run short work at once and long work in a thread, so that no stream waits for it."""
    return work() if num_chars <= _INLINE_CHARS else await asyncio.to_thread(work)
