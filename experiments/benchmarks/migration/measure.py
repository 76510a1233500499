"""Rows: every strategy at every context, round after round, with what was believed beforehand."""

import itertools
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from statistics import median

from experiments.benchmarks.migration.row import MigrationRow
from experiments.benchmarks.migration.specimens import Specimen
from experiments.benchmarks.migration.stage import MigrationBench, Play
from sllmcore.migration_cost_model import MigrationCostModel, Strategy
from sllmcore.migration_predictor import (
    LinearMigrationPredictor,
    MigrationProfile,
    QuadraticMigrationPredictor,
)
from sllmcore.protocols import MigrationTimePredictor
from sllmcore.types import Request
from sllmreal.engine.protocol import SequenceSpec

NUM_BEFORE, NUM_AFTER = 12, 8


@dataclass(frozen=True, slots=True)
class _RequestState:
    """A request as the predictor sees it: all its context is input."""

    request: Request
    running_since_s: float
    num_preemptions: int = 0
    can_migrate: bool = True
    stays_until_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Beliefs:
    """Of a migration that is about to be measured."""

    quadratic_s: float
    linear_s: float
    chosen: Strategy


class Measurement:
    """The migrations of one model."""

    def __init__(self, stage: MigrationBench, specimen: Specimen) -> None:
        self._stage = stage
        self._specimen = specimen
        self.costs = MigrationCostModel(stage.capabilities.kv_bytes_per_token)
        self._predictors: tuple[MigrationTimePredictor, ...] = (
            QuadraticMigrationPredictor(MigrationProfile()),
            LinearMigrationPredictor(MigrationProfile()),
        )

    def rows(
        self, contexts: Sequence[int], strategies: Sequence[Strategy], num_rounds: int
    ) -> Iterator[MigrationRow]:
        """The first migration of all warms up, and is not counted."""
        self._play(min(contexts), Strategy.REPLAY, 0)
        for number, context, strategy in itertools.product(range(num_rounds), contexts, strategies):
            beliefs = self._beliefs(context)
            play = self._play(context, strategy, number)
            row = self._row(play, strategy, (context, number), beliefs)
            self._learn(row)
            yield row

    def _play(self, context: int, strategy: Strategy, number: int) -> Play:
        rng = Random(f"{context}/{number}")  # noqa: S311 - a prompt
        vocabulary = self._stage.capabilities.vocab_size
        prompt = tuple(rng.randrange(1, vocabulary) for _ in range(max(1, context - NUM_BEFORE)))
        room = self._stage.capabilities.context_tokens - len(prompt)
        spec = SequenceSpec(f"r{time.monotonic_ns()}", prompt, room)
        replay_tokens = {
            Strategy.REPLAY: None,
            Strategy.COPY: 0,
            Strategy.HYBRID: max(1, self.costs.hybrid_split(context)),
        }[strategy]
        return self._stage.play(spec, NUM_BEFORE, NUM_AFTER, replay_tokens)

    def _row(
        self,
        play: Play,
        strategy: Strategy,
        asked: tuple[int, int],
        believed: _Beliefs,
    ) -> MigrationRow:
        assert play.finished is not None and play.ready is not None
        context, number = asked
        before = _gaps(play.token_at_s, 0.0, play.resumed_at_s)
        during = _gaps(play.token_at_s, play.resumed_at_s, play.ready_at_s)
        slowdown = None
        if len(during) >= 4:
            slowdown = math.fsum(during) / len(during) / median(before)
        return MigrationRow(
            model=self._specimen.model,
            dtype=self._specimen.dtype,
            strategy=strategy,
            asked_context_tokens=context,
            context_tokens=max(1, context - NUM_BEFORE) + play.ready.num_output,
            round=number,
            catch_up_s=play.finished.resume_s,
            pause_s=play.finished.pause_s,
            inter_token_s=median(before),
            bytes_moved=play.ready.num_bytes,
            recomputed_tokens=play.ready.num_recomputed,
            source_slowdown=slowdown,
            predicted_s=believed.quadratic_s,
            predicted_linear_s=believed.linear_s,
            chosen=believed.chosen,
        )

    def _beliefs(self, context: int) -> _Beliefs:
        request = Request("r", self._specimen.model, 0.0, context)
        link_id = _RequestState(request, 0.0)
        quadratic_s, linear_s = (one.resume_s(link_id, 0.0) for one in self._predictors)
        return _Beliefs(quadratic_s, linear_s, self.costs.choose(context).strategy)

    def _learn(self, row: MigrationRow) -> None:
        """As a desk and a controller do, by the context when the move began."""
        context = row.asked_context_tokens
        self.costs.observe(Strategy(row.strategy), context, row.catch_up_s)
        if row.strategy == Strategy.REPLAY:
            for predictor in self._predictors:
                predictor.observe_resume(self._specimen.model, context, row.catch_up_s)


def _gaps(times_s: Sequence[float], begin_s: float, end_s: float) -> list[float]:
    """Times between consecutive tokens that came in [begin, end]."""
    within = [time_s for time_s in times_s if begin_s <= time_s <= end_s]
    return [later - earlier for earlier, later in itertools.pairwise(within)]
