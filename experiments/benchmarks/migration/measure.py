"""Measure every strategy at every context, in rounds, and predict each migration beforehand."""

import itertools
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from statistics import median

from experiments.benchmarks.migration.bench import MigrationBench, MigrationRecord
from experiments.benchmarks.migration.bench_model import BenchModel
from experiments.benchmarks.migration.row import MigrationRow
from sllmcore.migration_cost_model import MigrationCostModel, Strategy
from sllmcore.migration_predictor import (
    LinearMigrationPredictor,
    MigrationProfile,
    QuadraticMigrationPredictor,
)
from sllmcore.protocols import MigrationTimePredictor
from sllmcore.types import Request
from sllmreal.engine.protocol import SequenceSpec

NUM_BEFORE, NUM_AFTER = 12, 8  # tokens before and after the migration


@dataclass(frozen=True, slots=True)
class _RequestState:
    """The view that a predictor has of a request; all of its context is input."""

    request: Request
    running_since_s: float
    num_preemptions: int = 0
    can_migrate: bool = True
    backoff_until_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Predictions:
    """Predicted resume times, and the chosen strategy, of a migration to be measured."""

    quadratic_s: float
    linear_s: float
    chosen: Strategy


class Measurement:
    """Measures migrations of one model, and trains predictors and cost model on the results."""

    def __init__(self, bench: MigrationBench, model: BenchModel) -> None:
        self._bench = bench
        self._model = model
        self._costs = MigrationCostModel(bench.capabilities.kv_bytes_per_token)
        self._predictors: tuple[MigrationTimePredictor, ...] = (
            QuadraticMigrationPredictor(MigrationProfile()),
            LinearMigrationPredictor(MigrationProfile()),
        )

    def rows(
        self, contexts: Sequence[int], strategies: Sequence[Strategy], num_rounds: int
    ) -> Iterator[MigrationRow]:
        """Yield a row per round, context and strategy, after one migration as warm-up."""
        self._migrate(min(contexts), Strategy.REPLAY, 0)
        for number, context, strategy in itertools.product(range(num_rounds), contexts, strategies):
            predictions = self._predictions(context)
            record = self._migrate(context, strategy, number)
            row = self._row(record, strategy, (context, number), predictions)
            self._learn(row)
            yield row

    def _migrate(self, context: int, strategy: Strategy, number: int) -> MigrationRecord:
        rng = Random(f"{context}/{number}")  # noqa: S311 - a prompt
        vocabulary = self._bench.capabilities.vocab_size
        prompt = tuple(rng.randrange(1, vocabulary) for _ in range(max(1, context - NUM_BEFORE)))
        max_output = self._bench.capabilities.context_tokens - len(prompt)
        spec = SequenceSpec(f"r{time.monotonic_ns()}", prompt, max_output)
        replay_tokens = {
            Strategy.REPLAY: None,
            Strategy.COPY: 0,
            Strategy.HYBRID: max(1, self._costs.hybrid_split(context)),
        }[strategy]
        return self._bench.migrate(spec, NUM_BEFORE, NUM_AFTER, replay_tokens)

    def _row(
        self,
        record: MigrationRecord,
        strategy: Strategy,
        context_and_round: tuple[int, int],
        predictions: _Predictions,
    ) -> MigrationRow:
        assert record.finished is not None and record.ready is not None
        context, number = context_and_round
        before = _gaps(record.token_at_s, 0.0, record.started_at_s)
        during = _gaps(record.token_at_s, record.started_at_s, record.ready_at_s)
        slowdown = None
        if len(during) >= 4:
            slowdown = math.fsum(during) / len(during) / median(before)
        return MigrationRow(
            model=self._model.model,
            dtype=self._model.dtype,
            strategy=strategy,
            asked_context_tokens=context,
            context_tokens=max(1, context - NUM_BEFORE) + record.ready.num_output,
            round=number,
            catch_up_s=record.finished.resume_s,
            pause_s=record.finished.pause_s,
            inter_token_s=median(before),
            bytes_moved=record.ready.num_bytes,
            recomputed_tokens=record.ready.num_recomputed,
            source_slowdown=slowdown,
            predicted_s=predictions.quadratic_s,
            predicted_linear_s=predictions.linear_s,
            chosen=predictions.chosen,
        )

    def _predictions(self, context: int) -> _Predictions:
        request = Request("r", self._model.model, 0.0, context)
        state = _RequestState(request, 0.0)
        quadratic_s, linear_s = (one.resume_s(state, 0.0) for one in self._predictors)
        return _Predictions(quadratic_s, linear_s, self._costs.choose(context).strategy)

    def _learn(self, row: MigrationRow) -> None:
        """Train on a row as router and controller do: by the context when the migration began."""
        context = row.asked_context_tokens
        self._costs.observe(Strategy(row.strategy), context, row.catch_up_s)
        if row.strategy == Strategy.REPLAY:
            for predictor in self._predictors:
                predictor.observe_resume(self._model.model, context, row.catch_up_s)


def _gaps(times_s: Sequence[float], begin_s: float, end_s: float) -> list[float]:
    """Return the times between consecutive tokens that arrived in [begin_s, end_s]."""
    within = [time_s for time_s in times_s if begin_s <= time_s <= end_s]
    return [later - earlier for earlier, later in itertools.pairwise(within)]
