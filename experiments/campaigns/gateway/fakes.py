"""A cluster that says what a test tells it to, and remembers what it was asked."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass, field

from experiments.campaigns.gateway import tiny
from sllmreal.engine.protocol import FinishReason
from sllmreal.gateway.backend import (
    BucketCounts,
    ClusterMetrics,
    ColdStartMetrics,
    DeployedModel,
    Generated,
    GenerationRequest,
    Health,
    ModelSnapshot,
    Tokenizer,
)

WELL = Health(leader_alive=True, store_reachable=True, num_workers_alive=1, driver_silence_s=0.0)
MODELS = (
    DeployedModel("tiny/chat", 512, 1_700_000_000.0, has_chat_template=True),
    DeployedModel("ids-only", 512, 1_700_000_000.0),
    DeployedModel("secret", 512, 1_700_000_000.0, owner="b", tenants=frozenset({"b"})),
)
ANSWER = "I am well, thank you: naïve 日本 😀 world."
Step = Generated | Exception | asyncio.Event
Script = Callable[[GenerationRequest], Iterable[Step]]


def says(text: str, finish: FinishReason | None = None, batch: int = 1) -> Script:
    """A model that says `text`, then ends by its stop token; or fills its length on the way."""

    def script(submission: GenerationRequest) -> Iterable[Step]:
        tokens = [*tiny.tokenizer().encode(text, special=False), tiny.EOS]
        reason = finish or FinishReason.STOP
        if len(tokens) > submission.max_output_tokens:
            tokens, reason = tokens[: submission.max_output_tokens], FinishReason.LENGTH
        for start in range(0, len(tokens), batch):
            part = tuple(tokens[start : start + batch])
            yield Generated(part, reason if start + batch >= len(tokens) else None)

    return script


def endless(submission: GenerationRequest) -> Iterable[Step]:
    """A token now, and then nothing, until the submission is cancelled."""
    yield Generated((tiny.tokenizer().encode("Hello", special=False)[0],))
    yield asyncio.Event()


@dataclass
class FakeBackend:
    """Implements Backend."""

    script: Script = field(default_factory=lambda: says(ANSWER))
    health_now: Health = WELL
    deployed: tuple[DeployedModel, ...] = MODELS
    submissions: list[GenerationRequest] = field(default_factory=list)
    running: set[str] = field(default_factory=set)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def models(self) -> tuple[DeployedModel, ...]:
        return self.deployed

    def model(self, name: str) -> DeployedModel | None:
        return next((model for model in self.deployed if model.name == name), None)

    def tokenizer(self, model: str) -> Tokenizer | None:
        return None if model == "ids-only" else tiny.tokenizer()

    def submit(self, submission: GenerationRequest) -> AsyncGenerator[Generated, None]:
        self.submissions.append(submission)
        self.running.add(submission.request_id)
        self.changed.set()
        return self._stream(submission)

    async def _stream(self, submission: GenerationRequest) -> AsyncGenerator[Generated, None]:
        try:
            for step in self.script(submission):
                if isinstance(step, asyncio.Event):
                    await step.wait()
                elif isinstance(step, Exception):
                    raise step
                else:
                    await asyncio.sleep(0)
                    yield step
        finally:
            self.running.discard(submission.request_id)
            self.changed.set()

    async def until(self, condition: Callable[["FakeBackend"], bool]) -> None:
        """Return when the condition holds; it is looked at whenever a submission begins or ends."""
        while not condition(self):
            self.changed.clear()
            await self.changed.wait()

    def health(self) -> Health:
        return self.health_now

    def snapshot(self) -> ClusterMetrics:
        return ClusterMetrics(
            models=(ModelSnapshot("tiny/chat", 1, 2, 0.5, 0, BucketCounts().plus(0.3)),),
            cold_starts=(
                ColdStartMetrics("ssd", "transfer", BucketCounts().plus(0.2).plus(400.0)),
            ),
            bytes_loaded={"ssd": 10, "dram": 20},
            migrations={"finished": 3, "aborted": 1},
            recomputed_tokens=7,
            leader_changes=2,
        )
