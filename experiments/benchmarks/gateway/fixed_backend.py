"""A cluster of known capacity: so many slots, a token each so many seconds, first come first.

Its capacity is  slots / (tokens x token_s)  requests a second, whatever is offered; what a gateway
in front of it makes of more than that is the gateway's doing.
"""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from sllmreal.engine.protocol import FinishReason
from sllmreal.gateway.backend import (
    ClusterMetrics,
    DeployedModel,
    Generated,
    GenerationRequest,
    Health,
    TimedOutError,
    Tokenizer,
)

STEADY = "steady"  # the model whose capacity is fixed
FLOOD = "flood"  # one that answers at once and at length, for clients that do not read
_FLOOD_TOKENS = 64  # a step of the flood
_CONTEXT_TOKENS = 1 << 17


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the cluster can do."""

    num_slots: int = 32
    token_s: float = 0.04
    tokens: int = 16  # of each answer
    patience_s: float = 30.0  # in its queue

    @property
    def requests_per_s(self) -> float:
        return self.num_slots / (self.tokens * self.token_s)


class FixedBackend:
    """Implements the gateway's Backend. Both models speak token ids only."""

    def __init__(self, capacity: Capacity) -> None:
        self._capacity = capacity
        self._slots = asyncio.Semaphore(capacity.num_slots)
        self._models = {
            name: DeployedModel(name, _CONTEXT_TOKENS, 1_700_000_000.0) for name in (STEADY, FLOOD)
        }

    def models(self) -> list[DeployedModel]:
        return list(self._models.values())

    def model(self, name: str) -> DeployedModel | None:
        return self._models.get(name)

    def tokenizer(self, model: str) -> Tokenizer | None:
        return None

    def submit(self, submission: GenerationRequest) -> AsyncGenerator[Generated, None]:
        return self._flood(submission) if submission.model == FLOOD else self._steady(submission)

    def health(self) -> Health:
        return Health(True, True, 1, 0.0)

    def snapshot(self) -> ClusterMetrics:
        return ClusterMetrics()

    async def _steady(self, submission: GenerationRequest) -> AsyncGenerator[Generated, None]:
        try:
            async with asyncio.timeout(self._capacity.patience_s):
                await self._slots.acquire()
        except TimeoutError:
            raise TimedOutError("no slot became free") from None
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        try:
            for number in range(1, submission.max_output_tokens + 1):
                # By the clock and not by sleeps in a row: a busy event loop costs no capacity.
                await asyncio.sleep(begun_s + number * self._capacity.token_s - loop.time())
                last = number == submission.max_output_tokens
                yield Generated((number,), FinishReason.LENGTH if last else None)
        finally:
            self._slots.release()

    async def _flood(self, submission: GenerationRequest) -> AsyncGenerator[Generated, None]:
        num_left = submission.max_output_tokens
        while num_left > 0:
            await asyncio.sleep(self._capacity.token_s)
            num_left -= _FLOOD_TOKENS
            finish = FinishReason.LENGTH if num_left <= 0 else None
            yield Generated((1,) * _FLOOD_TOKENS, finish)
