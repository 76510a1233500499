"""The generation of all choices of one API request, for streamed and whole responses."""

import asyncio
import logging
from collections.abc import Callable
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

_LOG = logging.getLogger(__name__)
Emit = Callable[[Delta], None]


@dataclass(frozen=True, slots=True)
class GenerationPlan:
    """The requests of all choices, and how their tokens become text."""

    requests: tuple[GenerationRequest, ...]
    tokenizer: Tokenizer | None
    stop_strings: tuple[str, ...]
    prompt_tokens: int  # each prompt once, however many choices it has


class ChoiceText:
    """Turns the tokens of one choice into deltas. Holds back text that may be of a stop string."""

    def __init__(self, index: int, request: GenerationRequest, plan: GenerationPlan) -> None:
        self._index = index
        self._stop_tokens = request.stop_tokens
        tokenizer = plan.tokenizer
        self._decoder = None if tokenizer is None else tokenizer.decoder(request.prompt)
        self._stops = StopStrings(plan.stop_strings)
        self.num_used = 0  # tokens until the end, including the one that ended the choice

    def push(self, generated: Generated) -> Delta:
        """Return the delta of further tokens. It has a `finish` if the choice ends with it."""
        text, finish = "", generated.finish
        ends_by_token = finish is FinishReason.STOP
        for index, token in enumerate(generated.tokens):
            self.num_used += 1
            last = index == len(generated.tokens) - 1
            if last and ends_by_token and token in self._stop_tokens:
                break  # a stop token is not part of the text
            text += self._stops.push("" if self._decoder is None else self._decoder.push(token))
            if self._stops.matched:
                tokens = generated.tokens[: index + 1]
                return Delta(self._index, text, tokens, FinishReason.STOP)
        if finish is not None:
            text += self._stops.push("" if self._decoder is None else self._decoder.flush())
            if self._stops.matched:
                return Delta(self._index, text, generated.tokens, FinishReason.STOP)
            text += self._stops.flush()
        return Delta(self._index, text, generated.tokens, finish)


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
        with self._admission.waiting(len(requests)) as waiting:
            if len(requests) == 1:
                counts = [await self._choice(0, waiting[0], emit)]
            else:
                counts = await self._all_choices(waiting, emit)
        return self.usage(sum(counts))

    async def _all_choices(self, waiting: list[WaitingChoice], emit: Emit) -> list[int]:
        """Run all choices at once; the first that fails ends the others."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._choice(index, choice, emit))
                    for index, choice in enumerate(waiting)
                ]
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
            finish = await self._follow(request, text, waiting, meter, emit)
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
