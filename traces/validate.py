"""A comparison of `azure_like` with the published statistics of the Azure traces.

Each service is generated for the length of its trace under several seeds, and the median of each
statistic is compared with that of the trace. Popularity is measured over the requests of many
functions. The published statistics and their sources are in `data/published_targets.json`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from sllmcore.workload import WorkloadRequest
from traces.data_files import load_json
from traces.generators import generated_rows
from traces.popularity import FUNCTIONS_SIGMA, Popularity
from traces.rows import TraceRow
from traces.spec import WorkloadSpec
from traces.summary import TraceSummary, summary_of
from traces.workload import workload_requests

NUM_SEEDS = 60  # a run has five windows of 600 s; medians of fewer runs differ by a third
NUM_LENGTH_SEEDS = 3
NUM_FUNCTIONS, FUNCTION_REQUESTS = 2_000, 40_000

Service = Literal["conv", "code"]


@dataclass(frozen=True, slots=True)
class Check:
    """A published statistic and the generator's.

    Args:
        quantity: Name of the statistic.
        published, ours: Its values; ours is a median over seeds.
        allowed: Allowed difference of the two.
        relative: True if `allowed` is a fraction of the published value.
    """

    quantity: str
    published: float
    ours: float
    allowed: float
    relative: bool = True

    @property
    def difference(self) -> float:
        """Ours minus published, as a fraction of published if `relative`."""
        gap = self.ours - self.published
        return gap / self.published if self.relative else gap

    @property
    def met(self) -> bool:
        """True if the difference is allowed."""
        return abs(self.difference) <= self.allowed


def all_checks(num_seeds: int = NUM_SEEDS) -> list[Check]:
    """Return all checks; 60 seeds take ten seconds on a slow core."""
    seeds = range(num_seeds)
    return [
        *service_checks("conv", seeds),
        *service_checks("code", seeds),
        *popularity_checks(range(min(3, num_seeds))),
    ]


def service_checks(service: Service, seeds: Sequence[int]) -> list[Check]:
    """Check rate, burstiness and lengths of an Azure LLM service."""
    target = load_json("published_targets.json")["services"][service]
    spec = WorkloadSpec(
        kind="azure_like",
        pattern=service,
        target_rps=target["mean_rate_rps"],
        duration_s=target["span_s"],
        lengths=f"azure_{service}",
    )
    arrivals = [summary_of(generated_rows(spec, ("model",), seed)) for seed in seeds]
    workloads = (workload_requests(spec, ("model",), seed) for seed in seeds[:NUM_LENGTH_SEEDS])
    lengths = [summary_of(_rows(each)) for each in workloads]
    return [
        *_arrival_checks(service, target, arrivals),
        *_length_checks(service, target, lengths),
    ]


def _arrival_checks(
    service: Service, target: dict[str, Any], runs: Sequence[TraceSummary]
) -> Iterator[Check]:
    rate = median(run.rate_rps for run in runs)
    yield Check(f"{service}: rate, requests/s", target["mean_rate_rps"], rate, 0.15)
    for place, dispersion in enumerate(runs[0].dispersion):
        value = _median(run.dispersion[place].value for run in runs)
        name = f"{service}: dispersion at {dispersion.window_s} s"
        yield Check(name, target["iod"][str(dispersion.window_s)], value, 0.30)
    lag1 = _median(run.minute_correlation[0].value for run in runs)
    name = f"{service}: minute correlation"
    yield Check(name, target["minute_acf_lag1"], lag1, 0.1, relative=False)


def _length_checks(
    service: Service, target: dict[str, Any], runs: Sequence[TraceSummary]
) -> Iterator[Check]:
    for side in ("input_tokens", "output_tokens"):
        for place, quantile in enumerate(("p50", "p90", "p99")):
            value = _median(getattr(run, side).quantiles[place].value for run in runs)
            name = f"{service}: {side.replace('_', ' ')}, {quantile}"
            yield Check(name, target[side][quantile], value, 0.05)


def _median(values: Iterable[float | None]) -> float:
    return median(value for value in values if value is not None)


def popularity_checks(seeds: Sequence[int]) -> list[Check]:
    """Check the share of calls of the most popular functions against Azure Functions 2019."""
    target = load_json("published_targets.json")["functions"]
    functions = tuple(f"function-{index}" for index in range(NUM_FUNCTIONS))
    spec = WorkloadSpec(
        kind="azure_like",
        pattern="functions",
        target_rps=10.0,
        max_requests=FUNCTION_REQUESTS,
        popularity=Popularity("lognormal", sigma=FUNCTIONS_SIGMA),
    )
    tops: dict[float, list[float]] = {0.01: [], 0.1: []}
    for seed in seeds:
        calls = dict.fromkeys(functions, 0)
        for item in workload_requests(spec, functions, seed):
            calls[item.request.model] += 1
        ranked = sorted(calls.values(), reverse=True)
        for fraction, found in tops.items():
            found.append(sum(ranked[: round(fraction * NUM_FUNCTIONS)]) / FUNCTION_REQUESTS)
    return [
        Check(
            f"functions: top {100 * fraction:g} % share",
            target[f"top_{fraction:g}"],
            median(found),
            0.10,
        )
        for fraction, found in tops.items()
    ]


def _rows(requests: Iterable[WorkloadRequest]) -> Iterator[TraceRow]:
    for item in requests:
        asked = item.request
        yield TraceRow(asked.arrived_at_s, asked.model, asked.input_tokens, item.output_tokens)
