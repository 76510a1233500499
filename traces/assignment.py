"""The assignment of the rows of a trace to the deployed models."""

import bisect
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate

from numpy.random import Generator

from traces.errors import TraceError
from traces.mapping import FunctionMapping, model_of_function, stripe
from traces.popularity import Popularity, shares
from traces.report import TraceReport
from traces.seeding import generator

Assign = Callable[[str], str]  # the source that a row names -> the model

_CHUNK = 1024
_SHOWN_NAMES = 12


def by_name(models: Sequence[str]) -> Assign:
    """Return the identity: sources are names of models.

    Raises:
        TraceError: When called with a model that is not deployed.
    """
    known = frozenset(models)

    def assign(source: str) -> str:
        if source not in known:
            raise TraceError(
                f"the trace calls model {source!r}, which is not among the models; deploy it "
                f"(deployed are {some_names(models)})"
            )
        return source

    return assign


def some_names(names: Sequence[str]) -> str:
    """Return a list of names for an error, cut off after a dozen."""
    shown = ", ".join(names[:_SHOWN_NAMES])
    rest = len(names) - _SHOWN_NAMES
    return f"{shown} and {rest} more" if rest > 0 else shown


def by_function(
    functions: Sequence[str], models: Sequence[str], mapping: FunctionMapping, report: TraceReport
) -> Assign:
    """Return the mapping of functions that are known beforehand, numbered in the given order."""
    mapped = model_of_function(functions, models, mapping)
    report.models = {name: [model] for name, model in mapped.items() if name}
    return mapped.__getitem__


def by_first_call(models: Sequence[str], report: TraceReport) -> Assign:
    """Return the mapping `stripe`, with functions numbered in the order of their first calls."""
    seen: dict[str, str] = {}

    def assign(source: str) -> str:
        model = seen.get(source)
        if model is None:
            model = seen[source] = models[stripe(len(seen), len(models))]
            report.models[source] = [model]
        return model

    return assign


def by_popularity(popularity: Popularity, models: Sequence[str], seed: int) -> Assign:
    """Return a function that draws a model for each row and ignores the row's source."""
    bounds = list(accumulate(shares(popularity, len(models), seed)))
    uniforms = _uniforms(generator(seed, "assignment"))
    last = len(models) - 1

    def assign(source: str) -> str:
        return models[min(last, bisect.bisect_right(bounds, next(uniforms)))]

    return assign


def _uniforms(rng: Generator) -> Iterator[float]:
    while True:
        yield from rng.random(_CHUNK).tolist()
