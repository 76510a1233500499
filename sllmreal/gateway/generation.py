"""One request's choices, from submission to text: the part that streams and whole answers share."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass

from sllmcore.errors import ClusterError
from sllmreal.engine.protocol import FinishReason
from sllmreal.gateway.admission import Admission, AdmittedRequest
from sllmreal.gateway.answers import Delta, Usage
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
from sllmreal.gateway.stopping import StopStrings

Emit = Callable[[Delta], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a checked request comes to: submissions, and how their tokens become text."""

    submissions: tuple[GenerationRequest, ...]
    tokenizer: Tokenizer | None
    stops: tuple[str, ...]
    prompt_tokens: int  # each prompt once, however many choices it has


class ChoiceText:
    """Tokens of one choice in, deltas out. Text that may be part of a stop string waits."""

    def __init__(self, index: int, submission: GenerationRequest, plan: Plan) -> None:
        self._index = index
        self._stop_tokens = submission.stop_tokens
        tokenizer = plan.tokenizer
        self._decoder = None if tokenizer is None else tokenizer.decoder(submission.prompt)
        self._stops = StopStrings(plan.stops)
        self.num_used = 0  # tokens until the end, that which ended it included

    def push(self, generated: Generated) -> Delta:
        """What the tokens add. With `finish`, the choice has ended, if need be early."""
        text, finish = "", generated.finish
        ends_by_token = finish is FinishReason.STOP
        for place, token in enumerate(generated.tokens):
            self.num_used += 1
            last = place == len(generated.tokens) - 1
            if last and ends_by_token and token in self._stop_tokens:
                break  # it ends the answer and is not part of it
            text += self._stops.push("" if self._decoder is None else self._decoder.push(token))
            if self._stops.matched:
                tokens = generated.tokens[: place + 1]
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
        self, plan: Plan, backend: Backend, admission: Admission, metrics: GatewayMetrics
    ) -> None:
        self._plan = plan
        self._backend = backend
        self._admission = admission
        self._metrics = metrics

    def usage(self, output_tokens: int) -> Usage:
        """Of that many tokens, all choices together."""
        prompt_tokens = self._plan.prompt_tokens
        return Usage(prompt_tokens, output_tokens, prompt_tokens + output_tokens)

    async def run(self, emit: Emit) -> Usage:
        """Give every delta to `emit` as it comes; each choice's last has a finish.

        Raises ApiError (429) if there is no room for all choices, RejectedError, TimedOutError,
        FailedError, or what `emit` raises. However it ends, nothing of it runs on.
        """
        submissions = self._plan.submissions
        with self._admission.places(len(submissions)) as places:
            if len(submissions) == 1:
                counts = [await self._choice(0, places[0], emit)]
            else:
                counts = await self._together(places, emit)
        return self.usage(sum(counts))

    async def _together(self, places: list[AdmittedRequest], emit: Emit) -> list[int]:
        """All choices at once; the first that fails ends the others."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._choice(index, place, emit))
                    for index, place in enumerate(places)
                ]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _choice(self, index: int, place: AdmittedRequest, emit: Emit) -> int:
        """Run one choice; returns its number of output tokens."""
        submission = self._plan.submissions[index]
        meter = self._metrics.meter(submission.model, len(submission.prompt))
        outcome, finish = "cancelled", None
        try:
            text = ChoiceText(index, submission, self._plan)
            finish = await self._follow(submission, text, place, meter, emit)
            outcome = "completed"
        except ClusterError as error:
            outcome = _outcome(error)
            raise
        finally:
            meter.ended(outcome, finish)
        return text.num_used

    async def _follow(
        self,
        submission: GenerationRequest,
        text: ChoiceText,
        place: AdmittedRequest,
        meter: ChoiceMeter,
        emit: Emit,
    ) -> str:
        # Closing the stream cancels what has not ended: at a stop string, or when a client leaves.
        async with aclosing(self._backend.submit(submission)) as stream:
            async for generated in stream:
                if generated.tokens:
                    place.leave()
                    meter.tokens(len(generated.tokens))
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
