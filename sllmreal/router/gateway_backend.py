"""The cluster as its gateway sees it: `sllmreal.gateway.backend.Backend` over a desk and a link."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from math import inf
from pathlib import Path

from sllmcore.errors import SllmError
from sllmcore.events import MigrationFailed, MigrationFinished
from sllmreal.checkpoint.assets import asset_directory
from sllmreal.control.deployment import ModelDeployment
from sllmreal.control.leader_link import LeaderLink
from sllmreal.control.messages import LoadStats, ReportedEvent
from sllmreal.gateway.backend import (
    BucketCounts,
    ClusterMetrics,
    ColdStartMetrics,
    DeployedModel,
    GenerationRequest,
    Health,
    ModelSnapshot,
    RejectedError,
    Tokenizer,
)
from sllmreal.gateway.tokens import TextTokenizer
from sllmreal.router.pending_generation import PendingGeneration
from sllmreal.router.router import RequestRouter

FindTokenizer = Callable[[ModelDeployment], Tokenizer | None]
LEADER_SILENCE_S = 2.0  # a leader's lease: who was not heard for longer may be deposed


def tokenizer_of(spec: ModelDeployment) -> TextTokenizer | None:
    """The tokenizer that lies with a model's weights; None for one that speaks ids only."""
    try:
        return TextTokenizer.from_directory(asset_directory(Path(spec.source)))
    except (SllmError, OSError):
        return None


class ClusterBackend:
    """What the gateway asks, answered from the desk. Used from one event loop."""

    def __init__(
        self, router: RequestRouter, link: LeaderLink, find_tokenizer: FindTokenizer = tokenizer_of
    ) -> None:
        self._router = router
        self._link = link
        self._find_tokenizer = find_tokenizer
        self._tokenizers: dict[str, Tokenizer | None] = {}
        self._migrations: Counter[str] = Counter()
        router.heard.append(self._count)

    def models(self) -> Sequence[DeployedModel]:
        return [self._described(spec) for spec in self._router.models.values()]

    def model(self, name: str) -> DeployedModel | None:
        spec = self._router.models.get(name)
        return None if spec is None else self._described(spec)

    def tokenizer(self, model: str) -> Tokenizer | None:
        spec = self._router.models.get(model)
        if spec is None:
            return None
        if spec.source not in self._tokenizers:
            self._tokenizers[spec.source] = self._find_tokenizer(spec)
        return self._tokenizers[spec.source]

    def submit(self, submission: GenerationRequest) -> PendingGeneration:
        if submission.model not in self._router.models:
            raise RejectedError(f"model {submission.model} is not deployed")
        return self._router.submit(submission)

    def health(self) -> Health:
        # A leader that cannot reach its store ends: who leads has it.
        received_at_s = self._link.received_at_s
        silence_s = inf if received_at_s is None else time.monotonic() - received_at_s
        led = silence_s <= LEADER_SILENCE_S
        return Health(led, led, self._router.num_workers, silence_s)

    def snapshot(self) -> ClusterMetrics:
        running: Counter[str] = Counter()
        waiting: Counter[str] = Counter()
        instances: dict[str, set[str]] = {name: set() for name in self._router.models}
        for call in self._router.calls.values():
            name, instance_id = call.submission.model, call.owner.instance_id
            (waiting if instance_id is None else running)[name] += 1
            if instance_id is not None:
                instances.setdefault(name, set()).add(instance_id)
        loads = self._link.loads or LoadStats((), {})
        return ClusterMetrics(
            cold_starts=tuple(
                ColdStartMetrics(one.tier, one.phase, BucketCounts(one.counts, one.total_s))
                for one in loads.phases
            ),
            bytes_loaded=loads.num_bytes,
            models=tuple(
                ModelSnapshot(
                    name,
                    running[name],
                    waiting[name],
                    # Of the slots of instances that run anything: a slot's cache is its own.
                    running[name] / max(1, spec.num_slots * len(instances[name])),
                )
                for name, spec in self._router.models.items()
            ),
            migrations=dict(self._migrations),
            recomputed_tokens=self._router.recomputed_tokens,
            leader_changes=max(0, self._link.num_leaders - 1),
        )

    def _described(self, spec: ModelDeployment) -> DeployedModel:
        tokenizer = self.tokenizer(spec.name)
        has_template = isinstance(tokenizer, TextTokenizer) and tokenizer.has_chat_template
        return DeployedModel(
            spec.name,
            spec.context_tokens,
            spec.created_at_s,
            tenants=None if spec.tenants is None else frozenset(spec.tenants),
            has_chat_template=has_template,
        )

    def _count(self, event: ReportedEvent) -> None:
        match event:
            case MigrationFinished():
                self._migrations["finished"] += 1
            case MigrationFailed():
                self._migrations["failed"] += 1
            case _:
                pass
