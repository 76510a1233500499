"""From a checked body to submissions: the model, the prompt's tokens, and what `Limits` grants."""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from typing import TypeVar

from sllmcore.errors import UsageError
from sllmreal.engine.protocol import Sampling
from sllmreal.gateway.backend import Backend, DeployedModel, GenerationRequest, Tokenizer
from sllmreal.gateway.bodies import ChatRequest, CompletionRequest
from sllmreal.gateway.errors import ApiError, bad_request, unknown_model
from sllmreal.gateway.fields import GenerationBody
from sllmreal.gateway.generation import Plan
from sllmreal.gateway.keys import Principal
from sllmreal.gateway.settings import Limits

DEFAULT_COMPLETION_TOKENS = 16  # what OpenAI's completions generate when not told
# Tokenizing less than this takes under a millisecond; more is left to a thread.
_INLINE_CHARS = 2_048
T = TypeVar("T")


class Planner:
    """Makes plans for one principal's requests. Every method raises ApiError."""

    def __init__(self, backend: Backend, limits: Limits, principal: Principal) -> None:
        self._backend = backend
        self._limits = limits
        self._principal = principal

    def model(self, name: str) -> DeployedModel:
        """The model of this name; 404 where it is not for this principal to see."""
        model = self._backend.model(name)
        if model is None or not self._principal.sees(model):
            raise unknown_model(name)
        return model

    async def completion(self, body: CompletionRequest, request_id: str) -> Plan:
        """A plan with `n` choices for each prompt, prompt by prompt."""
        model = self.model(body.model)
        self._check(body, len(body.prompts))
        tokenizer = self._backend.tokenizer(model.name)
        prompts = []
        for prompt in body.prompts:
            if isinstance(prompt, str):
                prompts.append(await self._tokenized(tokenizer, prompt, special=True))
            else:
                prompts.append(_checked_ids(prompt, tokenizer))
        most = body.max_tokens or DEFAULT_COMPLETION_TOKENS
        return self._plan(body, model, prompts, (request_id, body.max_tokens, most))

    async def chat(self, body: ChatRequest, request_id: str) -> Plan:
        """A plan with `n` answers to a conversation."""
        model = self.model(body.model)
        self._check(body, 1)
        tokenizer = self._backend.tokenizer(model.name)
        if tokenizer is None:
            raise _speaks_ids_only(model.name)
        messages = [turn.message for turn in body.messages]
        num_chars = sum(len(turn.content) for turn in messages)
        try:
            text = await _aside(num_chars, lambda: tokenizer.chat_prompt(messages))
        except UsageError as error:
            raise bad_request(str(error), "messages") from error
        prompt = await self._tokenized(tokenizer, text, special=False)
        asked = body.most_tokens
        return self._plan(body, model, [prompt], (request_id, asked, asked or model.context_tokens))

    def _check(self, body: GenerationBody, num_prompts: int) -> None:
        limits = self._limits
        if num_prompts * (body.n or 1) > limits.choices:
            raise bad_request(f"prompts times n may be at most {limits.choices}", "n")
        if len(body.stops) > limits.stop_strings:
            raise bad_request(f"at most {limits.stop_strings} stop strings are taken", "stop")
        if any(len(stop) > limits.stop_chars for stop in body.stops):
            raise bad_request(f"a stop string may have {limits.stop_chars} characters", "stop")

    async def _tokenized(
        self, tokenizer: Tokenizer | None, text: str, *, special: bool
    ) -> list[int]:
        if tokenizer is None:
            raise _speaks_ids_only("this model")
        tokens = await _aside(len(text), lambda: tokenizer.encode(text, special=special))
        if not tokens:
            raise bad_request("the prompt is empty", "prompt")
        return tokens

    def _plan(
        self,
        body: GenerationBody,
        model: DeployedModel,
        prompts: Sequence[list[int]],
        wanted: tuple[str, int | None, int],
    ) -> Plan:
        request_id, asked, most = wanted
        tokenizer = self._backend.tokenizer(model.name)
        if tokenizer is None and body.stops:
            raise bad_request("a model that speaks token ids only has no stop strings", "stop")
        stop_tokens = frozenset[int]() if tokenizer is None else tokenizer.stop_tokens
        seed = secrets.randbits(62) if body.seed is None else body.seed
        num_choices = body.n or 1
        submissions = tuple(
            GenerationRequest(
                f"{request_id}-{number * num_choices + choice}",
                model.name,
                self._principal.tenant,
                tuple(prompt),
                self._output_tokens(len(prompt), model, asked, most),
                _sampling(body, seed + choice),
                frozenset() if body.ignore_eos else stop_tokens,
            )
            for number, prompt in enumerate(prompts)
            for choice in range(num_choices)
        )
        return Plan(submissions, tokenizer, body.stops, sum(map(len, prompts)))

    def _output_tokens(
        self, num_prompt: int, model: DeployedModel, asked: int | None, most: int
    ) -> int:
        """How many tokens a prompt's choice may have. An explicit wish is granted or refused."""
        limits = self._limits
        if num_prompt > limits.prompt_tokens:
            raise bad_request(f"a prompt may have {limits.prompt_tokens} tokens", "prompt")
        room = model.context_tokens - num_prompt
        if room < 1 or (asked is not None and asked > room):
            message = (
                f"This model's maximum context length is {model.context_tokens} tokens, and the "
                f"request asks for {num_prompt} in the prompt and {asked or 1} in the answer."
            )
            raise bad_request(message, None, "context_length_exceeded")
        if asked is not None and asked > limits.output_tokens:
            raise bad_request(f"an answer may have {limits.output_tokens} tokens", "max_tokens")
        return min(most, room, limits.output_tokens)


def _sampling(body: GenerationBody, seed: int) -> Sampling:
    top_k = body.top_k if body.top_k is not None and body.top_k > 0 else None
    return Sampling(
        temperature=1.0 if body.temperature is None else body.temperature,
        top_k=top_k,
        top_p=1.0 if body.top_p is None else body.top_p,
        seed=seed,
    )


def _checked_ids(prompt: list[int], tokenizer: Tokenizer | None) -> list[int]:
    if tokenizer is not None and max(prompt) >= tokenizer.vocab_size:
        message = f"token ids must be below {tokenizer.vocab_size}, got {max(prompt)}"
        raise bad_request(message, "prompt")
    return prompt


def _speaks_ids_only(name: str) -> ApiError:
    message = f"{name} has no tokenizer: its prompts are lists of token ids, for /v1/completions"
    return bad_request(message, "prompt", "text_not_supported")


async def _aside(num_chars: int, work: Callable[[], T]) -> T:
    """Short work at once, long work in a thread, so that it stops nobody's tokens."""
    return work() if num_chars <= _INLINE_CHARS else await asyncio.to_thread(work)
