"""The metrics page: what the gateway sees of its requests, under vLLM's names, and the cluster's
own counts under `sllm:`, read from a snapshot when the page is asked for."""

import time
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from sllmreal.control.messages import BUCKETS_S
from sllmreal.gateway.backend import BucketCounts, ClusterMetrics, ModelSnapshot

_MODEL = ["model_name"]
_TOKEN_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class GatewayMetrics:
    """All metrics of one gateway, in a registry of its own."""

    def __init__(self, snapshot: Callable[[], ClusterMetrics]) -> None:
        registry = self._registry = CollectorRegistry()

        def histogram(name: str, about: str, buckets: tuple[float, ...] = BUCKETS_S) -> Histogram:
            return Histogram(name, about, _MODEL, buckets=buckets, registry=registry)

        def counter(name: str, about: str, labels: list[str]) -> Counter:
            return Counter(name, about, labels, registry=registry)

        self.first_token = histogram("vllm:time_to_first_token_seconds", "From arrival")
        self.gap = histogram(
            "vllm:inter_token_latency_seconds", "Between two tokens", _TOKEN_BUCKETS_S
        )
        self.per_token = histogram(
            "vllm:request_time_per_output_token_seconds", "Mean after the first", _TOKEN_BUCKETS_S
        )
        self.whole = histogram("vllm:e2e_request_latency_seconds", "From arrival to the last token")
        self.decode = histogram("vllm:request_decode_time_seconds", "First to last token")
        self.prompt_tokens = counter("vllm:prompt_tokens", "Tokens of prompts", _MODEL)
        self.generated = counter("vllm:generation_tokens", "Tokens generated", _MODEL)
        self.success = counter(
            "vllm:request_success", "Choices generated", [*_MODEL, "finished_reason"]
        )
        self.ended = counter(
            "sllm:choices_ended", "Choices by how they ended", [*_MODEL, "outcome"]
        )
        self.refused = counter("sllm:refused", "Answers that are errors, by code", ["code"])
        registry.register(_ClusterCollector(snapshot))

    def page(self) -> bytes:
        """In Prometheus's text format."""
        return generate_latest(self._registry)

    def meter(self, model: str, prompt_tokens: int) -> "ChoiceMeter":
        """Begin to measure one choice."""
        return ChoiceMeter(self, model, prompt_tokens)


class ChoiceMeter:
    """Measures one choice from its arrival on."""

    def __init__(self, metrics: GatewayMetrics, model: str, prompt_tokens: int) -> None:
        self._metrics = metrics
        self._model = model
        self._begun_s = self._last_s = time.monotonic()
        self._first_s: float | None = None
        self._num_tokens = 0
        self._gap = metrics.gap.labels(model)
        metrics.prompt_tokens.labels(model).inc(prompt_tokens)

    @property
    def num_tokens(self) -> int:
        return self._num_tokens

    def tokens(self, num: int) -> None:
        """`num` tokens came at once."""
        now_s = time.monotonic()
        if self._first_s is None:
            self._first_s = now_s
            self._metrics.first_token.labels(self._model).observe(now_s - self._begun_s)
        else:
            for _ in range(num):
                self._gap.observe((now_s - self._last_s) / num)
        self._last_s = now_s
        self._num_tokens += num

    def ended(self, outcome: str, finish: str | None = None) -> None:
        """The choice ended; `finish` is its finish reason where it was completed."""
        metrics, model = self._metrics, self._model
        metrics.ended.labels(model, outcome).inc()
        metrics.generated.labels(model).inc(self._num_tokens)
        if finish is None:
            return
        metrics.success.labels(model, finish).inc()
        metrics.whole.labels(model).observe(self._last_s - self._begun_s)
        if self._first_s is not None:
            decode_s = self._last_s - self._first_s
            metrics.decode.labels(model).observe(decode_s)
            if self._num_tokens > 1:
                metrics.per_token.labels(model).observe(decode_s / (self._num_tokens - 1))


class _ClusterCollector(Collector):
    """Turns a snapshot into samples."""

    def __init__(self, snapshot: Callable[[], ClusterMetrics]) -> None:
        self._snapshot = snapshot

    def describe(self) -> Iterator[Metric]:
        return iter(())  # so that registering takes no snapshot

    def collect(self) -> Iterator[Metric]:
        snapshot = self._snapshot()
        yield from _of_models(snapshot.models)
        yield from _of_cold_starts(snapshot)
        yield _counts("sllm:bytes_loaded", "Bytes loaded", "tier", dict(snapshot.bytes_loaded))
        yield _counts("sllm:migrations", "Migrations", "outcome", dict(snapshot.migrations))
        about = "Tokens computed again after a migration or a loss"
        yield CounterMetricFamily("sllm:recomputed_tokens", about, value=snapshot.recomputed_tokens)
        yield CounterMetricFamily(
            "sllm:leader_changes", "Changes of the leader", value=snapshot.leader_changes
        )


def _of_models(models: tuple[ModelSnapshot, ...]) -> Iterator[Metric]:
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
        _add(queue, [model.name], model.queue)
        _add(prefill, [model.name], model.prefill)
    yield from (running, waiting, cache, preempted, queue, prefill)


def _of_cold_starts(snapshot: ClusterMetrics) -> Iterator[Metric]:
    about = "Phases of cold starts, by the tier that the bytes came from"
    family = HistogramMetricFamily("sllm:cold_start_seconds", about, labels=["tier", "phase"])
    for one in snapshot.cold_starts:
        _add(family, [one.tier, one.phase], one.durations)
    yield family


def _counts(name: str, about: str, label: str, values: dict[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, about, labels=[label])
    for key in sorted(values):
        family.add_metric([key], values[key])
    return family


def _add(family: HistogramMetricFamily, labels: list[str], durations: BucketCounts) -> None:
    """Prometheus counts cumulatively: each bucket holds those before it."""
    total, buckets = 0, []
    bounds = [str(bound) for bound in BUCKETS_S] + ["+Inf"]
    for bound, count in zip(bounds, durations.counts, strict=True):
        total += count
        buckets.append((bound, float(total)))
    family.add_metric(labels, buckets, durations.total_s)
