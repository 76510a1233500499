"""A scripted backend, which records the requests that it gets."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass, field

from experiments.campaigns.gateway import tiny
from sllmreal.control.buckets import BucketCounts
from sllmreal.control.messages import LoadStats, PhaseTimes
from sllmreal.engine.protocol import FinishReason
from sllmreal.gateway.backend import (
    DeployedModel,
    Generated,
    GenerationRequest,
    Health,
    Tokenizer,
)
from sllmreal.gateway.cluster_metrics import ClusterMetrics, ModelMetrics

HEALTHY = Health(leader_alive=True, store_reachable=True, num_workers_alive=1, driver_silence_s=0.0)
MODELS = (
    DeployedModel("tiny/chat", 512, 1_700_000_000.0),
    DeployedModel("ids-only", 512, 1_700_000_000.0),
    DeployedModel("secret", 512, 1_700_000_000.0, owned_by="b", tenants=frozenset({"b"})),
)
ANSWER = "I am well, thank you: naïve 日本 😀 world."
Step = Generated | Exception | asyncio.Event
Script = Callable[[GenerationRequest], Iterable[Step]]


def answering(text: str, finish: FinishReason | None = None, batch: int = 1) -> Script:
    """Return a script that generates `text` and a stop token, cut at the request's limit."""

    def script(request: GenerationRequest) -> Iterable[Step]:
        tokens = [*tiny.tokenizer().encode(text, special=False), tiny.EOS]
        reason = finish or FinishReason.STOP
        if len(tokens) > request.max_output_tokens:
            tokens, reason = tokens[: request.max_output_tokens], FinishReason.LENGTH
        for start in range(0, len(tokens), batch):
            part = tuple(tokens[start : start + batch])
            yield Generated(part, reason if start + batch >= len(tokens) else None)

    return script


def endless(request: GenerationRequest) -> Iterable[Step]:
    """Generate one token, then wait until the request is cancelled."""
    yield Generated((tiny.tokenizer().encode("Hello", special=False)[0],))
    yield asyncio.Event()


@dataclass
class FakeBackend:
    """Implements Backend: runs `script` for each request."""

    script: Script = field(default_factory=lambda: answering(ANSWER))
    health_now: Health = HEALTHY
    deployed: tuple[DeployedModel, ...] = MODELS
    text: Tokenizer = field(default_factory=tiny.tokenizer)
    requests: list[GenerationRequest] = field(default_factory=list)
    running: set[str] = field(default_factory=set)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def models(self) -> tuple[DeployedModel, ...]:
        return self.deployed

    def model(self, name: str) -> DeployedModel | None:
        return next((model for model in self.deployed if model.name == name), None)

    def tokenizer(self, model: str) -> Tokenizer | None:
        return None if model == "ids-only" else self.text

    def submit(self, request: GenerationRequest) -> AsyncGenerator[Generated, None]:
        self.requests.append(request)
        self.running.add(request.request_id)
        self.changed.set()
        return self._stream(request)

    async def _stream(self, request: GenerationRequest) -> AsyncGenerator[Generated, None]:
        try:
            for step in self.script(request):
                if isinstance(step, asyncio.Event):
                    await step.wait()
                elif isinstance(step, Exception):
                    raise step
                else:
                    await asyncio.sleep(0)
                    yield step
        finally:
            self.running.discard(request.request_id)
            self.changed.set()

    async def until(self, condition: Callable[["FakeBackend"], bool]) -> None:
        """Wait until the condition holds; it is evaluated when a request begins or ends."""
        while not condition(self):
            self.changed.clear()
            await self.changed.wait()

    def health(self) -> Health:
        return self.health_now

    def metrics(self) -> ClusterMetrics:
        durations = BucketCounts().plus(0.2).plus(400.0)
        return ClusterMetrics(
            models=(
                ModelMetrics(
                    name="tiny/chat",
                    num_running=1,
                    num_waiting=2,
                    kv_cache_share=0.5,
                    num_preemptions=0,
                    queue=BucketCounts().plus(0.3),
                ),
            ),
            loads=LoadStats(
                (PhaseTimes("ssd", "transfer", durations.counts, durations.total_s),),
                {"ssd": 10, "dram": 20},
            ),
            migrations={"finished": 3, "aborted": 1},
            recomputed_tokens=7,
            leader_changes=2,
        )
