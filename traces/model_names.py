"""The assignment of rows to the models that they name.

A name is that of a model (`opt-6.7b-3`) or of a deployment (`opt-6.7b`). The copies of a deployment
are called in turn. Case and punctuation do not matter: `llama3-8b` is the deployment `llama3_8b`.
"""

from collections.abc import Iterator, Sequence
from itertools import cycle

from traces.assignment import Assign, some_names
from traces.errors import TraceError
from traces.report import TraceReport
from traces.tables import folded


class ModelNames:
    """Assigns rows by name; the first row decides whether the trace names models at all.

    Args:
        models: The deployed models.
        drawn: Assigns the rows of a trace that names nothing.
        report: Filled with the mapping.
        names_services: The names may be those of services that cannot be deployed (BurstGPT). If no
            name is that of a deployed model, each is mapped to a model in turn.
    """

    def __init__(
        self, models: Sequence[str], drawn: Assign, report: TraceReport, *, names_services: bool
    ) -> None:
        self._models = models
        self._drawn = drawn
        self._report = report
        self._names_services = names_services
        self._by_name = _by_name(models)
        self._turns: dict[str, Iterator[str]] = {}
        self._first: str | None = None

    def assign(self, source: str) -> str:
        """Return the model for a row with this name; "" for a row without a name.

        Raises:
            TraceError: The name is none of a deployed model, or only some rows have a name.
        """
        if self._first is None:
            self._begin(source)
        if not source and not self._first:
            return self._drawn(source)
        turn = self._turns.get(source)
        if turn is None:
            turn = self._turns[source] = cycle(self._models_of(source))
        return next(turn)

    def _begin(self, source: str) -> None:
        self._first = source
        self._names_services = self._names_services and not self._called(source)
        if not source:
            self._report.mapping = (
                f"rows name no model; drawn by popularity, of {len(self._models)}"
            )
        elif self._names_services:
            self._report.mapping = f"no name is deployed; stripe, of {len(self._models)}"
        else:
            self._report.mapping = "rows go to the model that they name"

    def _models_of(self, source: str) -> list[str]:
        called = self._called(source)
        mixed = bool(source) != bool(self._first) or (self._names_services and bool(called))
        if mixed or not (called or self._names_services):
            raise self._unknown(source, mixed)
        if self._names_services:
            called = [self._models[len(self._report.models) % len(self._models)]]
        self._report.models[source] = called
        return called

    def _called(self, source: str) -> list[str]:
        if not source:
            return []
        if source in self._models:
            return [source]
        copies = [model for model in self._models if _deployment(model) == source]
        return copies or self._by_name.get(folded(source), [])

    def _unknown(self, source: str, mixed: bool) -> TraceError:
        deployed = some_names(self._models)
        if mixed:
            return TraceError(
                f"some rows name a deployed model and others do not: {self._first!r} and "
                f"{source!r}; deployed are {deployed} (or set workload.mapping)"
            )
        return TraceError(
            f"the trace calls model {source!r}, which is not deployed; deployed are {deployed} "
            "(workload.mapping=stripe maps names to models in turn, popularity draws models)"
        )


def _deployment(model: str) -> str | None:
    """Return the deployment that a model is a copy of: `a` for `a-3`; None for other names."""
    deployment, dash, index = model.rpartition("-")
    return deployment if dash and index.isdigit() else None


def _by_name(models: Sequence[str]) -> dict[str, list[str]]:
    """Return models by their folded names; a deployment has those of its copies.

    A name that two different deployments have is no name.
    """
    found: dict[str, list[str]] = {}
    owners: dict[str, str] = {}
    for model in models:
        names = {folded(model): model}
        deployment = _deployment(model)
        if deployment is not None:
            names[folded(deployment)] = deployment
        for name, owner in names.items():
            if owners.setdefault(name, owner) == owner:
                found.setdefault(name, []).append(model)
            else:
                found[name] = []
    return found
