"""A backend of known capacity: a number of slots, first come first served, and a time per token.

Its capacity is  slots / (tokens x token_s)  requests a second, whatever is offered. So the goodput
below it is lost by the gateway.
"""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from sllmreal.engine.protocol import FinishReason
from sllmreal.gateway.backend import (
    DeployedModel,
    Generated,
    GenerationRequest,
    Health,
    TimedOutError,
    Tokenizer,
)
from sllmreal.gateway.cluster_metrics import ClusterMetrics

STEADY = "steady"  # the model with the fixed capacity
FLOOD = "flood"  # a model with long responses at once, for clients that do not read
_FLOOD_TOKENS = 64  # per step of the flood
_CONTEXT_TOKENS = 1 << 17


@dataclass(frozen=True, slots=True)
class Capacity:
    """The capacity of the backend."""

    num_slots: int = 32
    token_s: float = 0.04
    tokens: int = 16  # of each response
    patience_s: float = 30.0  # maximum time in the queue

    @property
    def requests_per_s(self) -> float:
        """Capacity in requests a second."""
        return self.num_slots / (self.tokens * self.token_s)


class FixedBackend:
    """Implements the gateway's Backend. Both models take token ids only."""

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

    def submit(self, request: GenerationRequest) -> AsyncGenerator[Generated, None]:
        return self._flood(request) if request.model == FLOOD else self._steady(request)

    def health(self) -> Health:
        return Health(True, True, 1, 0.0)

    def metrics(self) -> ClusterMetrics:
        return ClusterMetrics()

    async def _steady(self, request: GenerationRequest) -> AsyncGenerator[Generated, None]:
        try:
            async with asyncio.timeout(self._capacity.patience_s):
                await self._slots.acquire()
        except TimeoutError:
            raise TimedOutError(
                f"no slot became free within {self._capacity.patience_s:g} s"
            ) from None
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        try:
            for number in range(1, request.max_output_tokens + 1):
                # Until an absolute time, so that a busy event loop does not reduce the capacity.
                await asyncio.sleep(began_s + number * self._capacity.token_s - loop.time())
                last = number == request.max_output_tokens
                yield Generated((number,), FinishReason.LENGTH if last else None)
        finally:
            self._slots.release()

    async def _flood(self, request: GenerationRequest) -> AsyncGenerator[Generated, None]:
        num_left = request.max_output_tokens
        while num_left > 0:
            await asyncio.sleep(self._capacity.token_s)
            num_left -= _FLOOD_TOKENS
            finish = FinishReason.LENGTH if num_left <= 0 else None
            yield Generated((1,) * _FLOOD_TOKENS, finish)
