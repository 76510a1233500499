"""`azure_like` against the published statistics it is meant to match.

Each service is generated for as long as the trace it imitates, under several seeds, and the median
of each statistic is compared with the trace's. Popularity is that of many functions called through
the same entry point as any workload. The figures compared with are in
`data/published_targets.json`, with their sources.
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
from traces.workload import build_jobs

NUM_SEEDS = 60  # five windows of 600 s a run: the median of fewer runs wanders by a third
NUM_LENGTH_SEEDS = 3
NUM_FUNCTIONS, FUNCTION_REQUESTS = 2_000, 40_000

Service = Literal["conv", "code"]


@dataclass(frozen=True, slots=True)
class Check:
    """One published figure beside the generator's.

    Args:
        quantity: What it is.
        published, ours: The figures; ours is a median over seeds.
        allowed: How far they may be apart.
        relative: Whether `allowed` is a fraction of the published figure, or absolute.
    """

    quantity: str
    published: float
    ours: float
    allowed: float
    relative: bool = True

    @property
    def difference(self) -> float:
        gap = self.ours - self.published
        return gap / self.published if self.relative else gap

    @property
    def met(self) -> bool:
        return abs(self.difference) <= self.allowed


def all_checks(num_seeds: int = NUM_SEEDS) -> list[Check]:
    """Every check of the package; ten seconds for 60 seeds on a slow core."""
    seeds = range(num_seeds)
    return [
        *service_checks("conv", seeds),
        *service_checks("code", seeds),
        *popularity_checks(range(min(3, num_seeds))),
    ]


def service_checks(service: Service, seeds: Sequence[int]) -> list[Check]:
    """Burstiness, movement and lengths of one Azure LLM service."""
    target = load_json("published_targets.json")["services"][service]
    spec = WorkloadSpec(
        kind="azure_like",
        pattern=service,
        target_rps=target["mean_rate_rps"],
        duration_s=target["span_s"],
        lengths=f"azure_{service}",
    )
    arrivals = [summary_of(generated_rows(spec, ("model",), seed)) for seed in seeds]
    jobs = (build_jobs(spec, ("model",), seed) for seed in seeds[:NUM_LENGTH_SEEDS])
    lengths = [summary_of(_rows(each)) for each in jobs]
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
    """Share of the calls that go to the most popular functions, as in Azure Functions 2019."""
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
        for job in build_jobs(spec, functions, seed):
            calls[job.request.model] += 1
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


def _rows(jobs: Iterable[WorkloadRequest]) -> Iterator[TraceRow]:
    for job in jobs:
        request = job.request
        yield TraceRow(request.arrived_at_s, request.model, request.input_tokens, job.output_tokens)
