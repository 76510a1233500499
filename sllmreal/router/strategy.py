"""How each request moves: cost models of what moves and between where, taught by what happened.

Replaying is learnt per model, from finished replays, and from the time that each request took to
its first token: it was a prefill of its context. Copying is learnt per model and pair of places.
"""

from dataclasses import dataclass, field

from sllmcore.curve import LearntCurve
from sllmcore.events import MigrationFailed, MigrationFinished
from sllmreal.engine.protocol import Capabilities
from sllmreal.router.cost_model import HOPEFUL, MigrationCostModel, MigrationRates, Strategy

_SMOOTHING = 0.2


@dataclass(frozen=True, slots=True)
class MigrationFacts:
    """What a choice of how to move depends on. A place is that of a worker."""

    context_tokens: int
    source: Capabilities
    destination: Capabilities
    source_place: str
    destination_place: str


@dataclass(slots=True)
class _Model:
    """What is known of one set of weights."""

    replay: LearntCurve
    pairs: dict[tuple[str, str], MigrationCostModel] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Prefill:
    model: str
    num_tokens: int
    began_at_s: float


@dataclass(frozen=True, slots=True)
class _Moving:
    costs: MigrationCostModel
    strategy: Strategy


class StrategyChooser:
    """Used by one desk. `believed`: rates before anything was measured."""

    def __init__(self, believed: MigrationRates = HOPEFUL) -> None:
        self._believed = believed
        self._models: dict[str, _Model] = {}
        self._prefills: dict[str, _Prefill] = {}  # under way, by request
        self._moving: dict[str, _Moving] = {}  # likewise

    def replay_tokens(self, request_id: str, facts: MigrationFacts) -> int | None:
        """How a request that is about to move should, as in `Terms`."""
        self._prefills.pop(request_id, None)
        costs = self._costs(facts)
        choice = costs.choose(facts.context_tokens)
        self._moving[request_id] = _Moving(costs, choice.strategy)
        return choice.replay_tokens

    def started(self, request_id: str, model: str, num_tokens: int, now_s: float) -> None:
        """A request was given to an engine that has to compute so many tokens first."""
        self._prefills[request_id] = _Prefill(model, num_tokens, now_s)

    def answered(self, request_id: str, now_s: float) -> None:
        """Tokens have come."""
        prefill = self._prefills.pop(request_id, None)
        if prefill is not None and now_s > prefill.began_at_s:
            took_s = now_s - prefill.began_at_s
            self._model(prefill.model).replay.add(prefill.num_tokens, took_s, 1.0 - _SMOOTHING)

    def ended(self, event: MigrationFinished | MigrationFailed) -> None:
        moving = self._moving.pop(event.request_id, None)
        if moving is not None and isinstance(event, MigrationFinished):
            moving.costs.observe(moving.strategy, event.num_tokens, event.resume_s)

    def forget(self, request_id: str) -> None:
        """A request is over."""
        self._prefills.pop(request_id, None)
        self._moving.pop(request_id, None)

    def _model(self, name: str) -> _Model:
        if name not in self._models:
            self._models[name] = _Model(self._believed.replay_curve())
        return self._models[name]

    def _costs(self, facts: MigrationFacts) -> MigrationCostModel:
        model = self._model(facts.source.model)
        pair = facts.source_place, facts.destination_place
        if pair not in model.pairs:
            fits = facts.destination.exports_kv and facts.source.exports_kv
            fits = fits and facts.source.kv_layout == facts.destination.kv_layout
            per_token = facts.source.kv_bytes_per_token if fits else 0
            model.pairs[pair] = MigrationCostModel(
                per_token, self._believed, model.replay, _SMOOTHING
            )
        return model.pairs[pair]
