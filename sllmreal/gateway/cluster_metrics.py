"""Metrics of the cluster: the values that the backend provides, and their samples on /metrics.

To add one: a field here and its sample in `ClusterCollector`, and the value in the backend. Counts
of the leader (`LoadStats`) pass through the backend unchanged.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from sllmreal.control.buckets import BUCKETS_S, NO_DURATIONS, BucketCounts
from sllmreal.control.messages import LoadStats

NO_LOADS = LoadStats((), {})
_MODEL = ["model_name"]


@dataclass(frozen=True, slots=True)
class ModelMetrics:
    """The requests of a model at this moment, and the durations of its requests so far."""

    name: str
    num_running: int
    num_waiting: int
    kv_cache_share: float  # in [0, 1]
    num_preemptions: int = 0
    queue: BucketCounts = NO_DURATIONS  # until a request ran, cold start included
    prefill: BucketCounts = NO_DURATIONS


@dataclass(frozen=True, slots=True)
class ClusterMetrics:
    """The whole cluster. All but `models` are totals since the start."""

    models: tuple[ModelMetrics, ...] = ()
    loads: LoadStats = NO_LOADS
    migrations: Mapping[str, int] = field(default_factory=dict)  # by outcome
    recomputed_tokens: int = 0
    leader_changes: int = 0


class ClusterCollector(Collector):
    """Samples of the backend's ClusterMetrics, taken when the page is requested."""

    def __init__(self, metrics: Callable[[], ClusterMetrics]) -> None:
        self._metrics = metrics

    def describe(self) -> Iterator[Metric]:
        """Return nothing, so that registering does not call the backend."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics of the cluster."""
        metrics = self._metrics()
        yield from _of_models(metrics.models)
        yield _of_cold_starts(metrics.loads)
        yield _counter("sllm:bytes_loaded", "Bytes loaded", "tier", metrics.loads.num_bytes)
        failed = metrics.loads.num_failed
        yield _counter("sllm:loads_failed", "Loads that failed", _MODEL[0], failed)
        yield _counter("sllm:migrations", "Migrations", "outcome", metrics.migrations)
        about = "Tokens computed again after a migration or a loss"
        yield CounterMetricFamily("sllm:recomputed_tokens", about, value=metrics.recomputed_tokens)
        yield CounterMetricFamily(
            "sllm:leader_changes", "Changes of the leader", value=metrics.leader_changes
        )


def _of_models(models: tuple[ModelMetrics, ...]) -> Iterator[Metric]:
    running = GaugeMetricFamily("vllm:num_requests_running", "Running", labels=_MODEL)
    waiting = GaugeMetricFamily("vllm:num_requests_waiting", "Waiting", labels=_MODEL)
    cache = GaugeMetricFamily("vllm:kv_cache_usage_perc", "KV cache in use, 0 to 1", labels=_MODEL)
    preempted = CounterMetricFamily("vllm:num_preemptions", "Preemptions", labels=_MODEL)
    queue = HistogramMetricFamily(
        "vllm:request_queue_time_seconds", "Until it ran, cold start included", labels=_MODEL
    )
    prefill = HistogramMetricFamily(
        "vllm:request_prefill_time_seconds", "Computing the prompt", labels=_MODEL
    )
    for model in models:
        running.add_metric([model.name], model.num_running)
        waiting.add_metric([model.name], model.num_waiting)
        cache.add_metric([model.name], model.kv_cache_share)
        preempted.add_metric([model.name], model.num_preemptions)
        _add_histogram(queue, [model.name], model.queue)
        _add_histogram(prefill, [model.name], model.prefill)
    yield from (running, waiting, cache, preempted, queue, prefill)


def _of_cold_starts(loads: LoadStats) -> Metric:
    about = "Phases of cold starts, by the tier that the bytes came from"
    family = HistogramMetricFamily("sllm:cold_start_seconds", about, labels=["tier", "phase"])
    for phase in loads.phases:
        durations = BucketCounts(phase.counts, phase.total_s)
        _add_histogram(family, [phase.tier, phase.phase], durations)
    return family


def _counter(name: str, about: str, label: str, values: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, about, labels=[label])
    for key in sorted(values):
        family.add_metric([key], values[key])
    return family


def _add_histogram(
    family: HistogramMetricFamily, labels: list[str], durations: BucketCounts
) -> None:
    """Add a histogram. Prometheus's buckets are cumulative: each includes those before it."""
    total, buckets = 0, []
    bounds = [str(bound) for bound in BUCKETS_S] + ["+Inf"]
    for bound, count in zip(bounds, durations.counts, strict=True):
        total += count
        buckets.append((bound, float(total)))
    family.add_metric(labels, buckets, durations.total_s)
