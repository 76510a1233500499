"""The workload that calibrates a real cluster: one server, two models, one request at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from experiments.config.real import RealSettings
from experiments.config.run_config import RunConfig
from experiments.real.plan import ClusterPlan, PlannedServer, planned_cluster
from experiments.real.served import served_models
from sllmcore.errors import UsageError
from sllmcore.residency import LruResidency
from sllmcore.types import SSD, Request, Residency
from sllmcore.workload import WorkloadRequest
from sllmreal.control.deployment import ModelDeployment

SHORT_TOKENS, LONG_TOKENS = 8, 200  # prompts, within the context of the smallest sample
ANSWER_TOKENS = 100


@dataclass(frozen=True, slots=True)
class RealBench:
    """The size of the bench.

    Args:
        cold_starts: Cold starts of each of the two models.
        answers: Requests of each kind to a warm instance.
        gap_s: Interval of requests; longer than any request takes.
    """

    cold_starts: int = 10
    answers: int = 5
    gap_s: float = 6.0

    def __post_init__(self) -> None:
        if min(self.cold_starts, self.answers) < 1 or self.gap_s <= 0:
            raise UsageError(f"cold_starts, answers and gap_s must be positive, got {self}")


def bench_models(
    config: RunConfig, settings: RealSettings, folder: Path, long_transfer_s: float
) -> tuple[ModelDeployment, ModelDeployment]:
    """Return two copies of the config's first model.

    With timed engines, the first has a single byte and the second takes `long_transfer_s` to load.
    """
    name, deployment = next(iter(config.models.deployments.items()))
    two = {name: replace(deployment, replicas=2)}
    deployments = replace(config.models, deployments=two)
    small, large = served_models(replace(config, models=deployments), settings, folder)
    if not settings.engine_kind.needs_weights:
        ssd_bytes_per_s = planned_cluster(config, settings).servers[0].spec.ssd_bytes_per_s
        long_bytes = int(long_transfer_s * ssd_bytes_per_s)
        small = msgspec.structs.replace(small, size_bytes=1)
        large = msgspec.structs.replace(large, size_bytes=long_bytes)
    return small, large


def bench_plan(
    config: RunConfig, settings: RealSettings, models: Sequence[ModelDeployment]
) -> ClusterPlan:
    """Return a cluster of the config's first server, with one GPU and without caching.

    An idle instance is kept until its GPU is needed. An emulated SSD begins with both models.
    """
    plan = planned_cluster(config, settings)
    resident = [Residency(SSD, model.name, model.size_bytes) for model in models]
    server = PlannedServer(
        replace(plan.servers[0].spec, num_gpus=1, dram_bytes=0),
        tuple(resident) if plan.storage == "paced" else (),
    )
    residency = LruResidency(keep_alive_s=3600.0, keep_alive_load_factor=None)
    policy = replace(plan.policy, name="serverless", residency=residency)
    return replace(plan, servers=(server,), policy=policy)


def bench_requests(
    bench: RealBench, models: Sequence[ModelDeployment]
) -> Iterator[WorkloadRequest]:
    """Yield the requests; an id begins with the kind: cold, short, long, answer, full."""
    small, large = models
    at_s = 0.0

    def one(
        kind: str, number: int, model: ModelDeployment, tokens: tuple[int, int]
    ) -> WorkloadRequest:
        request = Request(f"{kind}-{number}", model.name, at_s, tokens[0])
        return WorkloadRequest(request, tokens[1])

    for number in range(2 * bench.cold_starts):
        yield one("cold", number, large if number % 2 else small, (SHORT_TOKENS, 1))
        at_s += bench.gap_s
    warm = large  # the last cold start
    for number in range(bench.answers):
        for kind, tokens in (
            ("short", (SHORT_TOKENS, 1)),
            ("long", (LONG_TOKENS, 1)),
            ("answer", (SHORT_TOKENS, ANSWER_TOKENS)),
        ):
            yield one(kind, number, warm, tokens)
            at_s += bench.gap_s
    for number in range(bench.answers if warm.num_slots > 1 else 0):
        for slot in range(warm.num_slots):
            yield one("full", number * warm.num_slots + slot, warm, (SHORT_TOKENS, ANSWER_TOKENS))
        at_s += bench.gap_s
