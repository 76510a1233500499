"""The backend of a gateway's HTTP server: a request router and its link to the leader."""

import logging
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
from sllmreal.control.messages import ReportedEvent
from sllmreal.gateway.backend import (
    DeployedModel,
    FailedError,
    GenerationRequest,
    Health,
    RejectedError,
    Tokenizer,
)
from sllmreal.gateway.cluster_metrics import NO_LOADS, ClusterMetrics, ModelMetrics
from sllmreal.gateway.text_tokenizer import TextTokenizer
from sllmreal.router.pending_generation import PendingGeneration
from sllmreal.router.router import RequestRouter

_LOG = logging.getLogger(__name__)
FindTokenizer = Callable[[ModelDeployment], Tokenizer | None]
LEADER_SILENCE_S = 2.0  # the leader's lease: after it another process may lead


def tokenizer_of(deployment: ModelDeployment) -> TextTokenizer | None:
    """Return the tokenizer that is stored with a model's weights; None if it cannot be read."""
    try:
        return TextTokenizer.from_directory(asset_directory(Path(deployment.source)))
    except (SllmError, OSError) as error:
        ids = {"model": deployment.name}
        _LOG.info("the model is served by token ids only: %s", error, extra=ids)
        return None


class ClusterBackend:
    """Implements `Backend` with a router and its link to the leader. Used in one event loop."""

    def __init__(
        self, router: RequestRouter, link: LeaderLink, find_tokenizer: FindTokenizer = tokenizer_of
    ) -> None:
        self._router = router
        self._link = link
        self._find_tokenizer = find_tokenizer
        self._tokenizers: dict[str, Tokenizer | None] = {}  # by source of the model
        self._migrations: Counter[str] = Counter()  # by outcome
        router.event_listeners.append(self._count)

    def models(self) -> Sequence[DeployedModel]:
        """Return all deployed models."""
        return [self._described(deployment) for deployment in self._router.models.values()]

    def model(self, name: str) -> DeployedModel | None:
        """Return the deployed model of this name."""
        deployment = self._router.models.get(name)
        return None if deployment is None else self._described(deployment)

    def tokenizer(self, model: str) -> Tokenizer | None:
        """Return the model's tokenizer; None for a model without one."""
        deployment = self._router.models.get(model)
        if deployment is None:
            return None
        source = deployment.source
        if source not in self._tokenizers:
            self._tokenizers[source] = self._find_tokenizer(deployment)
        return self._tokenizers[source]

    def submit(self, request: GenerationRequest) -> PendingGeneration:
        """Submit a request.

        Raises:
            RejectedError: The model is not deployed.
            FailedError: No server can run its model.
        """
        if request.model not in self._router.models:
            raise RejectedError(
                f"model {request.model} is not deployed; /v1/models lists the deployed models"
            )
        reason = self._link.unservable.get(request.model)
        if reason is not None:
            raise FailedError(reason)
        return self._router.submit(request)

    def health(self) -> Health:
        """Return the state of the control plane.

        A leader exits when it cannot reach the store, so a live leader implies a reachable store.
        """
        received_at_s = self._link.received_at_s
        silence_s = inf if received_at_s is None else time.monotonic() - received_at_s
        leader_alive = silence_s <= LEADER_SILENCE_S
        return Health(leader_alive, leader_alive, self._router.num_workers, silence_s)

    def metrics(self) -> ClusterMetrics:
        """Return the cluster's metrics at this moment."""
        return ClusterMetrics(
            models=self._model_metrics(),
            loads=self._link.loads or NO_LOADS,
            migrations=dict(self._migrations),
            recomputed_tokens=self._router.recomputed_tokens,
            leader_changes=max(0, self._link.num_leaders - 1),
        )

    def _model_metrics(self) -> tuple[ModelMetrics, ...]:
        running: Counter[str] = Counter()
        waiting: Counter[str] = Counter()
        instances: dict[str, set[str]] = {name: set() for name in self._router.models}
        for generation in self._router.generations.values():
            name, instance_id = generation.request.model, generation.owner.instance_id
            (waiting if instance_id is None else running)[name] += 1
            if instance_id is not None:
                instances.setdefault(name, set()).add(instance_id)
        return tuple(
            ModelMetrics(
                name,
                running[name],
                waiting[name],
                # Share of the slots of instances that have requests: each slot has its own cache.
                running[name] / max(1, deployment.num_slots * len(instances[name])),
            )
            for name, deployment in self._router.models.items()
        )

    @staticmethod
    def _described(deployment: ModelDeployment) -> DeployedModel:
        return DeployedModel(
            deployment.name,
            deployment.context_tokens,
            deployment.created_at_s,
            tenants=None if deployment.tenants is None else frozenset(deployment.tenants),
        )

    def _count(self, event: ReportedEvent) -> None:
        match event:
            case MigrationFinished():
                self._migrations["finished"] += 1
            case MigrationFailed():
                self._migrations["failed"] += 1
            case _:
                pass
