"""From a checked body to the requests of its choices: model, tokens of the prompt, limits."""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from sllmcore.errors import UsageError
from sllmreal.engine.protocol import Sampling
from sllmreal.gateway.backend import (
    Backend,
    ChatOptions,
    DeployedModel,
    GenerationRequest,
    Tokenizer,
)
from sllmreal.gateway.bodies import ChatRequest, CompletionRequest
from sllmreal.gateway.errors import ApiError, bad_request, unknown_model
from sllmreal.gateway.fields import GenerationBody
from sllmreal.gateway.generation import GenerationPlan, echo_of
from sllmreal.gateway.keys import Principal
from sllmreal.gateway.messages import Messages
from sllmreal.gateway.model_defaults import ModelDefaults
from sllmreal.gateway.settings import Limits

DEFAULT_COMPLETION_TOKENS = 16  # OpenAI's default of max_tokens for completions
# Tokenizing a shorter text takes less than a millisecond; a longer one is tokenized in a thread.
_INLINE_CHARS = 2_048
_PROMPTS_AT_ONCE = 16
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
        special = body.add_special_tokens is not False
        for number, prompt in enumerate[str | list[int]](body.prompts):
            if number % _PROMPTS_AT_ONCE == _PROMPTS_AT_ONCE - 1:
                await asyncio.sleep(0)  # running streams go on
            if isinstance(prompt, str):
                prompts.append(await prompt_tokens(tokenizer, model.name, prompt, special=special))
            else:
                prompts.append(checked_ids(prompt, tokenizer, "prompt"))
        default = _defaults(tokenizer).max_tokens or DEFAULT_COMPLETION_TOKENS
        output_limit = _OutputLimit(body.max_tokens, default)
        plan = self._plan(
            body=body,
            model=model,
            prompts=prompts,
            request_id=request_id,
            output_limit=output_limit,
        )
        if not body.echo:
            return plan
        return await _with_echo(_with_scored_prompts(plan) if plan.has_logprobs else plan)

    async def chat(self, body: ChatRequest, request_id: str) -> GenerationPlan:
        """Return a plan with `n` answers to a conversation."""
        model = self.model(body.model)
        self._check_limits(body, 1)
        tokenizer = self._backend.tokenizer(model.name)
        if tokenizer is None:
            raise no_tokenizer(model.name)
        text = await chat_text(tokenizer, body.messages, body.options)
        special = bool(body.add_special_tokens)
        prompt = await prompt_tokens(tokenizer, model.name, text, special=special)
        default = tokenizer.defaults.max_tokens or model.context_tokens
        output_limit = _OutputLimit(body.output_limit, default)
        return self._plan(
            body=body,
            model=model,
            prompts=[prompt],
            request_id=request_id,
            output_limit=output_limit,
        )

    def _check_limits(self, body: GenerationBody, num_prompts: int) -> None:
        limits, num_choices = self._limits, num_prompts * (body.n or 1)
        if num_choices > limits.choices:
            message = (
                f"prompts times n is {num_choices} and may be {limits.choices}; "
                "send several requests."
            )
            raise bad_request(message, "n")
        num_chars = sum(map(len, body.stop_strings))
        if num_chars > limits.stop_chars:
            message = (
                f"The stop strings have {num_chars} characters together and may have "
                f"{limits.stop_chars}; shorten or remove some."
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
        for field, ids in (
            ("stop_token_ids", body.stop_token_ids or []),
            ("logit_bias", [token for token, _ in body.biases]),
        ):
            if ids:
                checked_ids(ids, tokenizer, field)
        stop_tokens = frozenset(body.stop_token_ids or ())
        if tokenizer is not None and not body.ignore_eos:
            stop_tokens |= tokenizer.stop_tokens
        seed = secrets.randbits(62) if body.seed is None else body.seed
        num_choices = body.n or 1
        sampling = _sampling(body, _defaults(tokenizer))
        samplings = [replace(sampling, seed=seed + choice) for choice in range(num_choices)]
        requests = tuple(
            GenerationRequest(
                request_id=f"{request_id}-{number * num_choices + choice}",
                model=model.name,
                tenant=self._principal.tenant,
                prompt=tuple(prompt),
                max_output_tokens=self._output_tokens(len(prompt), model, output_limit),
                sampling=samplings[choice],
                stop_tokens=stop_tokens,
            )
            for number, prompt in enumerate(prompts)
            for choice in range(num_choices)
        )
        self._check_output(body, requests)
        return GenerationPlan(
            requests,
            tokenizer,
            body.stop_strings,
            sum(map(len, prompts)),
            includes_stop=bool(body.include_stop_str_in_output),
            at_once=self._limits.choices_at_once,
            has_logprobs=body.num_logprobs is not None,
        )

    def _check_output(self, body: GenerationBody, requests: Sequence[GenerationRequest]) -> None:
        """Check the maximum of output tokens against `min_tokens`, and of all choices together."""
        least = min(request.max_output_tokens for request in requests)
        if body.min_tokens and body.min_tokens > least:
            message = (
                f"min_tokens is {body.min_tokens} and the answer may have {least} tokens; "
                "lower min_tokens or raise max_tokens."
            )
            raise bad_request(message, "min_tokens")
        total, limit = sum(one.max_output_tokens for one in requests), self._limits
        if total > limit.request_output_tokens:
            message = (
                f"{len(requests)} choices may have {total} output tokens together, above the limit "
                f"of {limit.request_output_tokens}; lower max_tokens or send several requests."
            )
            raise bad_request(message, "max_tokens")

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
        if requested == 0 and num_left >= 0:  # no output: the prompt alone is asked for
            return 0
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


def _sampling(body: GenerationBody, defaults: ModelDefaults) -> Sampling:
    """Return the sampling: fields of the request, else the model's defaults, else OpenAI's."""
    top_k = _first(body.top_k, defaults.top_k, 0)
    return Sampling(
        temperature=_first(body.temperature, defaults.temperature, 1.0),
        top_k=top_k if top_k > 0 else None,
        top_p=_first(body.top_p, defaults.top_p, 1.0),
        min_p=_first(body.min_p, defaults.min_p, 0.0),
        presence_penalty=body.presence_penalty or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        repetition_penalty=_first(body.repetition_penalty, defaults.repetition_penalty, 1.0),
        logit_bias=body.biases,
        min_tokens=body.min_tokens or 0,
        logprobs=body.num_logprobs,
    )


def _first(requested: T | None, default: T | None, otherwise: T) -> T:
    if requested is not None:
        return requested
    return otherwise if default is None else default


def _with_scored_prompts(plan: GenerationPlan) -> GenerationPlan:
    """Return the plan with all tokens of the prompts but their first as forced output."""
    requests = tuple(
        replace(
            request,
            prompt=request.prompt[:1],
            max_output_tokens=request.max_output_tokens + len(request.prompt) - 1,
            sampling=replace(request.sampling, forced=request.prompt[1:]),
        )
        for request in plan.requests
    )
    return replace(plan, requests=requests)


async def _with_echo(plan: GenerationPlan) -> GenerationPlan:
    """Return the plan with the echoes of its prompts, each of which is decoded once."""
    tokenizer = plan.tokenizer
    if tokenizer is None:
        model = plan.requests[0].model
        message = f"The model {model!r} has no tokenizer to return the prompt's text; remove echo."
        raise bad_request(message, "echo", "text_not_supported")
    prompts = dict.fromkeys(request.prompt for request in plan.requests)
    num_chars = 4 * sum(map(len, prompts))
    echoes = await _run(num_chars, lambda: {one: echo_of(one, tokenizer) for one in prompts})
    return replace(plan, echoes=tuple(echoes[request.prompt] for request in plan.requests))


async def chat_text(tokenizer: Tokenizer, messages: Messages, options: ChatOptions) -> str:
    """Return the prompt of a conversation. Raises ApiError (400)."""
    turns = [turn.message for turn in messages]
    num_chars = sum(len(turn.content) for turn in turns)
    try:
        return await _run(num_chars, lambda: tokenizer.chat_prompt(turns, options))
    except UsageError as error:
        raise bad_request(str(error), "messages") from error


async def prompt_tokens(
    tokenizer: Tokenizer | None, model: str, text: str, *, special: bool
) -> list[int]:
    """Return the tokens of a prompt. Raises ApiError (400) if there are none."""
    if tokenizer is None:
        raise no_tokenizer(model)
    tokens = await _run(len(text), lambda: tokenizer.encode(text, special=special))
    if not tokens:
        raise bad_request("The prompt is empty; it must have at least one token.", "prompt")
    return tokens


def checked_ids(ids: list[int], tokenizer: Tokenizer | None, field: str) -> list[int]:
    if tokenizer is not None and max(ids) >= tokenizer.vocab_size:
        message = (
            f"{field} has the token id {max(ids)}, and the model has ids below "
            f"{tokenizer.vocab_size}; use its tokenizer's ids."
        )
        raise bad_request(message, field)
    return ids


def no_tokenizer(model: str) -> ApiError:
    """Return the error for text that a model without a tokenizer cannot take."""
    message = (
        f"The model {model!r} has no tokenizer; send its prompts to /v1/completions as lists of "
        "token ids."
    )
    return bad_request(message, "prompt", "text_not_supported")


async def _run(num_chars: int, work: Callable[[], T]) -> T:
    """Run short work at once and long work in a thread, so that no stream waits for it."""
    return work() if num_chars <= _INLINE_CHARS else await asyncio.to_thread(work)
