"""The choice of a strategy for each migration, learnt from finished ones. Used by both drivers.

Replaying is learnt per model: from finished replays, and from the time to the first token of each
request, which is a prefill of its context. Copying is learnt per model and pair of servers. Each
driver reports the begin and the end of prefills and migrations here.
"""

from dataclasses import dataclass, field

from sllmcore.curve import LearntCurve
from sllmcore.events import MigrationFailed, MigrationFinished
from sllmcore.migration_cost_model import (
    OPTIMISTIC,
    MigrationCostModel,
    MigrationRates,
    Strategy,
    StrategyChoice,
)

_SMOOTHING = 0.2


@dataclass(frozen=True, slots=True)
class MigrationFacts:
    """The inputs of a choice.

    Args:
        model: Name of the weights.
        kv_bytes_per_token: 0 where the KV cache cannot be copied.
        source_server: Names the server, or its address; likewise `destination_server`.
    """

    model: str
    kv_bytes_per_token: int
    context_tokens: int
    source_server: str
    destination_server: str


@dataclass(slots=True)
class _LearntModel:
    """The curves of one set of weights."""

    replay: LearntCurve
    pairs: dict[tuple[str, str], MigrationCostModel] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Prefill:
    model: str
    num_tokens: int
    began_at_s: float


@dataclass(frozen=True, slots=True)
class _Chosen:
    costs: MigrationCostModel
    strategy: Strategy


class StrategyChooser:
    """Chooses by cost models that it trains.

    Args:
        rates: Rates before anything was measured.
    """

    def __init__(self, rates: MigrationRates = OPTIMISTIC) -> None:
        self._rates = rates
        self._models: dict[str, _LearntModel] = {}
        self._prefills: dict[str, _Prefill] = {}  # under way, by request
        self._migrations: dict[str, _Chosen] = {}  # likewise

    def begin_migration(self, request_id: str, facts: MigrationFacts) -> StrategyChoice:
        """Choose the strategy of a migration that begins now.

        A prefill of the request that is under way is no longer timed: the migration disturbs it.
        """
        self._prefills.pop(request_id, None)
        costs = self._costs(facts)
        choice = costs.choose(facts.context_tokens)
        self._migrations[request_id] = _Chosen(costs, choice.strategy)
        return choice

    def end_migration(self, event: MigrationFinished | MigrationFailed) -> None:
        """Learn from a migration that has finished; forget one that has failed."""
        chosen = self._migrations.pop(event.request_id, None)
        if chosen is not None and isinstance(event, MigrationFinished):
            chosen.costs.observe(chosen.strategy, event.num_tokens, event.resume_s)

    def begin_prefill(self, request_id: str, model: str, num_tokens: int, now_s: float) -> None:
        """Time the prefill of a request that an engine starts."""
        self._prefills[request_id] = _Prefill(model, num_tokens, now_s)

    def end_prefill(self, request_id: str, now_s: float) -> None:
        """Learn from the prefill of a request. Its first token came at `now_s`.

        Ignored if no prefill of the request is under way.
        """
        prefill = self._prefills.pop(request_id, None)
        if prefill is not None and now_s > prefill.began_at_s:
            took_s = now_s - prefill.began_at_s
            self._model(prefill.model).replay.add(prefill.num_tokens, took_s, 1.0 - _SMOOTHING)

    def forget(self, request_id: str) -> None:
        """Forget a request that has ended."""
        self._prefills.pop(request_id, None)
        self._migrations.pop(request_id, None)

    def _model(self, name: str) -> _LearntModel:
        if name not in self._models:
            self._models[name] = _LearntModel(self._rates.replay_curve())
        return self._models[name]

    def _costs(self, facts: MigrationFacts) -> MigrationCostModel:
        model = self._model(facts.model)
        pair = facts.source_server, facts.destination_server
        if pair not in model.pairs:
            model.pairs[pair] = MigrationCostModel(
                facts.kv_bytes_per_token, self._rates, model.replay, _SMOOTHING
            )
        return model.pairs[pair]
