"""The metrics page: the gateway's own metrics under vLLM's names, and those of the cluster."""

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from sllmreal.control.buckets import BUCKETS_S
from sllmreal.gateway.cluster_metrics import ClusterCollector, ClusterMetrics

_MODEL = ["model_name"]
_TOKEN_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class GatewayMetrics:
    """All metrics of one gateway, in a registry of its own."""

    def __init__(self, cluster_metrics: Callable[[], ClusterMetrics]) -> None:
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
        registry.register(ClusterCollector(cluster_metrics))

    def page(self) -> bytes:
        """Return all metrics in Prometheus's text format."""
        return generate_latest(self._registry)

    def meter(self, model: str, prompt_tokens: int) -> "ChoiceMeter":
        """Return the meter of a choice that begins now."""
        return ChoiceMeter(self, model, prompt_tokens)


class ChoiceMeter:
    """Measures one choice from its arrival on."""

    def __init__(self, metrics: GatewayMetrics, model: str, prompt_tokens: int) -> None:
        self._metrics = metrics
        self._model = model
        self._began_s = self._last_s = time.monotonic()
        self._first_s: float | None = None
        self._num_tokens = 0
        self._gap = metrics.gap.labels(model)
        metrics.prompt_tokens.labels(model).inc(prompt_tokens)

    @property
    def num_tokens(self) -> int:
        """Tokens counted so far."""
        return self._num_tokens

    @property
    def elapsed_s(self) -> float:
        """Seconds from the arrival to the last token; 0 before the first."""
        return self._last_s - self._began_s

    def count_tokens(self, num_tokens: int) -> None:
        """Count tokens that arrived together."""
        now_s = time.monotonic()
        if self._first_s is None:
            self._first_s = now_s
            self._metrics.first_token.labels(self._model).observe(now_s - self._began_s)
        else:
            for _ in range(num_tokens):
                self._gap.observe((now_s - self._last_s) / num_tokens)
        self._last_s = now_s
        self._num_tokens += num_tokens

    def end(self, outcome: str, finish: str | None = None) -> None:
        """Count the end of the choice; `finish` is the finish reason of a completed one."""
        metrics, model = self._metrics, self._model
        metrics.ended.labels(model, outcome).inc()
        metrics.generated.labels(model).inc(self._num_tokens)
        if finish is None:
            return
        metrics.success.labels(model, finish).inc()
        metrics.whole.labels(model).observe(self._last_s - self._began_s)
        if self._first_s is not None:
            decode_s = self._last_s - self._first_s
            metrics.decode.labels(model).observe(decode_s)
            if self._num_tokens > 1:
                metrics.per_token.labels(model).observe(decode_s / (self._num_tokens - 1))
