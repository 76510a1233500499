"""Generated arrivals: each model, or each function that calls a model, has a stream of its own.

    poisson     Gamma gaps of CV 1
    gamma       Gamma gaps of one CV, or of one CV per model
    azure_like  conv       Gamma gaps of CV 1.02 under a rate that follows an Ornstein-Uhlenbeck
                           process (CV 0.29, 700 s): the Azure conversation service of 2023
                code       bursts and silences: the Azure code service of 2023 (see `bursts`)
                functions  Gamma gaps, each function with a CV drawn from those of the Azure
                           Functions apps without timers (median 1.7, 11 % above 8)

The rate of a stream is `target_rps` times its share of the popularity.
"""

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import assert_never

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from traces.bursts import burst_arrivals
from traces.errors import TraceError
from traces.function_cvs import PublishedCvs
from traces.mapping import function_mapping, model_of_function
from traces.modulation import Modulation, OrnsteinUhlenbeck, week_profile
from traces.popularity import FUNCTIONS_SIGMA, Popularity, shares
from traces.renewal import gamma_arrivals, scaled_times
from traces.rows import TraceRow
from traces.seeding import generator
from traces.spec import WorkloadSpec

GAMMA_CV = 8.0  # the paper's burstiness
CONV_CV = 1.02  # median CV inside 60-s windows of the conversation trace
CONV_FLUCTUATION = OrnsteinUhlenbeck(cv=0.29, tau_s=700.0)  # fitted to its index of dispersion
_HORIZON_GROWTH = 4.0


@dataclass(frozen=True, slots=True)
class Entity:
    """A source of arrivals: a model, or a function that calls a model.

    Args:
        cv: CV of its gaps; None: the default of the workload's kind.
    """

    name: str
    model: str
    rate_rps: float
    cv: float | None


def generated_rows(spec: WorkloadSpec, models: Sequence[str], seed: int) -> Iterator[TraceRow]:
    """Yield arrivals in order of time, with the model as source and without lengths.

    They have no end if the spec has no `duration_s`.
    """
    assert spec.target_rps is not None
    entities = workload_entities(spec, models, seed)
    if spec.duration_s is not None:
        return _merged(spec, entities, seed, spec.duration_s)
    assert spec.max_requests is not None
    horizon_s = 2.0 * spec.max_requests / spec.target_rps
    return _endless(lambda until_s: _merged(spec, entities, seed, until_s), horizon_s)


def workload_entities(spec: WorkloadSpec, models: Sequence[str], seed: int) -> list[Entity]:
    """Return the sources of a workload with their rates.

    Raises:
        TraceError: The spec has a CV per model, and not as many as there are models.
    """
    assert spec.target_rps is not None
    if isinstance(spec.cv, tuple) and len(spec.cv) != len(models):
        raise TraceError(f"{len(spec.cv)} values of cv for {len(models)} models: give one for each")
    if spec.num_functions is None:
        names, model_of = list(models), {model: model for model in models}
        popularity = spec.popularity
    else:
        names = [f"function-{index}" for index in range(spec.num_functions)]
        model_of = model_of_function(names, models, function_mapping(spec.mapping))
        popularity = _of_functions(spec.popularity)
    cvs = spec.cv if isinstance(spec.cv, tuple) else (spec.cv,) * len(names)
    if spec.kind == "azure_like" and spec.pattern == "functions":
        drawn = PublishedCvs.load()
        cvs = tuple(
            drawn.cv(name, seed) if cv is None else cv for name, cv in zip(names, cvs, strict=True)
        )
    return [
        Entity(name, model_of[name], spec.target_rps * share, cv)
        for name, share, cv in zip(names, shares(popularity, len(names), seed), cvs, strict=True)
    ]


def _of_functions(popularity: Popularity) -> Popularity:
    sigma = FUNCTIONS_SIGMA if popularity.sigma is None else popularity.sigma
    return Popularity(popularity.kind, popularity.alpha, sigma, popularity.shuffled)


def _endless(make: Callable[[float], Iterator[TraceRow]], horizon_s: float) -> Iterator[TraceRow]:
    """Yield rows without end: make them up to ever later horizons, and skip those already given."""
    given = 0
    while True:
        for index, row in enumerate(make(horizon_s)):
            if index >= given:
                given += 1
                yield row
        horizon_s *= _HORIZON_GROWTH


def _merged(
    spec: WorkloadSpec, entities: Sequence[Entity], seed: int, until_s: float
) -> Iterator[TraceRow]:
    """Yield the arrivals of all entities before `until_s`; ties: the order of the entities."""
    modulation = _modulation(spec)
    streams = [entity_times(spec, entity, modulation, until_s, seed) for entity in entities]
    heap = [(at_s, index) for index, stream in enumerate(streams) for at_s in _first(stream)]
    heapq.heapify(heap)
    while heap:
        at_s, index = heap[0]
        yield TraceRow(at_s, entities[index].model, None, None)
        following = next(streams[index], None)
        if following is None:
            heapq.heappop(heap)
        else:
            heapq.heapreplace(heap, (following, index))


def _first(stream: Iterator[float]) -> tuple[float, ...]:
    at_s = next(stream, None)
    return () if at_s is None else (at_s,)


def _modulation(spec: WorkloadSpec) -> Modulation:
    week = None if spec.diurnal is None else week_profile(spec.diurnal)
    conv = spec.kind == "azure_like" and spec.pattern == "conv"
    return Modulation(week, spec.start_hour, CONV_FLUCTUATION if conv else None)


def entity_times(
    spec: WorkloadSpec, entity: Entity, modulation: Modulation, until_s: float, seed: int
) -> Iterator[float]:
    """Yield arrivals of an entity before `until_s`; they depend on name, rate and seed only."""
    rng = generator(seed, "arrivals", entity.name)
    chunks = _unit_arrivals(spec, entity, rng)
    if modulation.week is None and modulation.fluctuation is None:
        return scaled_times(chunks, entity.rate_rps, until_s)
    moving = generator(seed, "modulation", entity.name)
    return modulation.times(chunks, entity.rate_rps, until_s, moving)


def _unit_arrivals(
    spec: WorkloadSpec, entity: Entity, rng: Generator
) -> Iterator[NDArray[np.float64]]:
    """Yield arrivals of the entity's process at rate 1, in operational time."""
    if spec.kind == "poisson":
        return gamma_arrivals(1.0, rng)
    if spec.kind == "gamma":
        return gamma_arrivals(GAMMA_CV if entity.cv is None else entity.cv, rng)
    match spec.pattern:
        case "conv":
            return gamma_arrivals(CONV_CV if entity.cv is None else entity.cv, rng)
        case "code":
            return (chunk * entity.rate_rps for chunk in burst_arrivals(entity.rate_rps, rng))
        case "functions":
            assert entity.cv is not None
            return gamma_arrivals(entity.cv, rng)
        case _:
            assert_never(spec.pattern)
