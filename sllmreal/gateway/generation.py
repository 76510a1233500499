"""The generation of all choices of one API request, for streamed and whole responses."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from sllmcore.errors import ClusterError
from sllmreal.engine.protocol import FinishReason
from sllmreal.gateway.admission import Admission, WaitingChoice
from sllmreal.gateway.backend import (
    Backend,
    FailedError,
    Generated,
    GenerationRequest,
    RejectedError,
    TimedOutError,
    Tokenizer,
)
from sllmreal.gateway.metrics import ChoiceMeter, GatewayMetrics
from sllmreal.gateway.responses import Delta, Usage
from sllmreal.gateway.stop_strings import StopStrings
from sllmreal.gateway.token_scores import NamedLogprob, TokenScore, scores_of, token_content

_LOG = logging.getLogger(__name__)
Emit = Callable[[Delta], None]


@dataclass(frozen=True, slots=True)
class Echo:
    """The text of a prompt's first `num_tokens` tokens, which end with a whole character."""

    text: str
    num_tokens: int


def echo_of(prompt: Sequence[int], tokenizer: Tokenizer) -> Echo:
    """Return the echo of a prompt. A last character that it does not complete is left out."""
    for num_tokens in range(len(prompt), max(0, len(prompt) - 4), -1):
        text = tokenizer.decode(prompt[:num_tokens])
        if not text.endswith("\N{REPLACEMENT CHARACTER}"):
            return Echo(text, num_tokens)
    return Echo("", 0) if len(prompt) < 4 else Echo(tokenizer.decode(prompt), len(prompt))


@dataclass(frozen=True, slots=True)
class GenerationPlan:
    """The requests of all choices, and how their tokens become text.

    Attributes:
        prompt_tokens: Tokens of the prompts; a prompt with several choices counts once.
        includes_stop: The text has the stop string or stop token that ended it.
        echoes: For each request the part of its prompt to return; empty without `echo`.
        at_once: Choices that run at a time.
        has_logprobs: The engine reports log probabilities, and with echoes also of the prompt:
            its tokens but the first are forced ones of the output.
    """

    requests: tuple[GenerationRequest, ...]
    tokenizer: Tokenizer | None
    stop_strings: tuple[str, ...]
    prompt_tokens: int
    includes_stop: bool = False
    echoes: tuple[Echo, ...] = ()
    at_once: int = 16
    has_logprobs: bool = False


class ChoiceText:
    """Turns the tokens of one choice into deltas. Holds back text that may be of a stop string."""

    def __init__(self, index: int, request: GenerationRequest, plan: GenerationPlan) -> None:
        self._index = index
        # Stop tokens that the text leaves out.
        self._hidden_tokens = frozenset() if plan.includes_stop else request.stop_tokens
        self._min_tokens = request.sampling.min_tokens
        echo = plan.echoes[index] if plan.echoes else Echo("", len(request.prompt))
        tokenizer, shown = plan.tokenizer, echo.num_tokens
        self._decoder = None if tokenizer is None else tokenizer.decoder(request.prompt[:shown])
        self._stops = StopStrings(plan.stop_strings, included=plan.includes_stop)
        self._echo = echo.text + "".join(map(self._decoded, request.prompt[shown:]))
        self._num_forced = len(request.sampling.forced)  # tokens of the prompt yet to come
        self._tokenizer, self._has_logprobs = tokenizer, plan.has_logprobs
        self._scores: tuple[TokenScore, ...] = ()
        if plan.has_logprobs and plan.echoes:
            first = NamedLogprob(token_content(request.prompt[0], tokenizer), None)
            self._scores = (TokenScore(first),)
        self._offset = 0  # characters of the tokens with a score
        self.num_used = 0  # tokens until the end, including the one that ended the choice

    def push(self, generated: Generated) -> Delta:
        """Return the delta of further tokens. It has a `finish` if the choice ends with it."""
        text, finish = self._echo, generated.finish
        num_forced = min(self._num_forced, len(generated.tokens))
        text += "".join(map(self._decoded, generated.tokens[:num_forced]))
        self._echo = ""
        self._num_forced -= num_forced
        tokens = generated.tokens[num_forced:]
        scores = self._scores
        if self._has_logprobs:
            scores += scores_of(generated.tokens, generated.logprobs, self._tokenizer)
            self._scores = ()
        ends_by_token = finish is FinishReason.STOP
        for index, token in enumerate(tokens):
            self.num_used += 1
            last = index == len(tokens) - 1
            if last and ends_by_token and token in self._hidden_tokens:
                break  # a stop token is not part of the text
            new = self._decoded(token)
            if self.num_used <= self._min_tokens:
                text += self._stops.skip(new)
                continue
            text += self._stops.push(new)
            if self._stops.matched:
                num_left = len(tokens) - index - 1
                scores = scores[: len(scores) - num_left]
                return self._delta(text, tokens[: index + 1], FinishReason.STOP, scores)
        if finish is not None:
            text += self._stops.push("" if self._decoder is None else self._decoder.flush())
            if self._stops.matched:
                return self._delta(text, tokens, FinishReason.STOP, scores)
            text += self._stops.flush()
        return self._delta(text, tokens, finish, scores)

    def _delta(
        self,
        text: str,
        tokens: tuple[int, ...],
        finish: FinishReason | None,
        scores: tuple[TokenScore, ...],
    ) -> Delta:
        offset = self._offset
        self._offset += sum(len(score.chosen.text) for score in scores)
        return Delta(self._index, text, tokens, finish, scores, offset)

    def _decoded(self, token: int) -> str:
        return "" if self._decoder is None else self._decoder.push(token)


class Generation:
    """Runs all choices of a plan."""

    def __init__(
        self, plan: GenerationPlan, backend: Backend, admission: Admission, metrics: GatewayMetrics
    ) -> None:
        self._plan = plan
        self._backend = backend
        self._admission = admission
        self._metrics = metrics

    def usage(self, output_tokens: int) -> Usage:
        """Return the usage when all choices together have `output_tokens` tokens."""
        prompt_tokens = self._plan.prompt_tokens
        return Usage(prompt_tokens, output_tokens, prompt_tokens + output_tokens)

    async def run(self, emit: Emit) -> Usage:
        """Call `emit` with every delta; each choice's last delta has a finish.

        Raises ApiError (429) if not all choices may wait, RejectedError, TimedOutError,
        FailedError, or what `emit` raises. After it no choice runs any more.
        """
        requests = self._plan.requests
        num_at_once = min(len(requests), self._plan.at_once)
        with self._admission.waiting(num_at_once) as waiting:
            if len(requests) == 1:
                counts = [await self._choice(0, waiting[0], emit)]
            else:
                counts = await self._all_choices(waiting, emit)
        return self.usage(sum(counts))

    async def _all_choices(self, waiting: list[WaitingChoice], emit: Emit) -> list[int]:
        """Run the choices, as many at once as may wait; the first that fails ends the others."""
        remaining = iter(range(len(self._plan.requests)))

        async def run_in_turn(choice: WaitingChoice) -> int:
            num_tokens = 0
            for index in remaining:
                choice.enter()
                num_tokens += await self._choice(index, choice, emit)
            choice.leave()
            return num_tokens

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(run_in_turn(choice)) for choice in waiting]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _choice(self, index: int, waiting: WaitingChoice, emit: Emit) -> int:
        """Run one choice; return its number of output tokens."""
        request = self._plan.requests[index]
        ids = {"request": request.request_id, "model": request.model}
        meter = self._metrics.meter(request.model, len(request.prompt))
        outcome, finish = "cancelled", None
        try:
            text = ChoiceText(index, request, self._plan)
            finish = await self._follow(
                request=request, text=text, waiting=waiting, meter=meter, emit=emit
            )
            outcome = "completed"
        except ClusterError as error:
            outcome = _outcome(error)
            level = logging.INFO if outcome == "rejected" else logging.WARNING
            _LOG.log(level, "generation %s: %s", outcome.replace("_", " "), error, extra=ids)
            raise
        finally:
            meter.end(outcome, finish)
        _LOG.debug(
            "generation completed by %s: %d tokens in %.3f s",
            finish,
            meter.num_tokens,
            meter.elapsed_s,
            extra=ids,
        )
        return text.num_used

    async def _follow(
        self,
        request: GenerationRequest,
        text: ChoiceText,
        waiting: WaitingChoice,
        meter: ChoiceMeter,
        emit: Emit,
    ) -> str:
        if request.max_output_tokens == 0:  # the prompt alone is asked for
            emit(text.push(Generated((), FinishReason.LENGTH)))
            return FinishReason.LENGTH
        # Closing the stream cancels what has not ended: at a stop string, or when a client leaves.
        async with aclosing(self._backend.submit(request)) as stream:
            async for generated in stream:
                if generated.tokens:
                    waiting.leave()
                    meter.count_tokens(len(generated.tokens))
                delta = text.push(generated)
                emit(delta)
                if delta.finish is not None:
                    return delta.finish
        raise FailedError("the cluster ended the output without a reason")


def _outcome(error: ClusterError) -> str:
    match error:
        case RejectedError():
            return "rejected"
        case TimedOutError():
            return "timed_out"
        case _:
            return "failed"
