"""Analyse rows: medians, the break-even of replay and copy, and the error of the predictors."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import median

from experiments.benchmarks.migration.row import MigrationRow
from sllmcore.migration_cost_model import MigrationCostModel, Strategy

_NUM_OBSERVATIONS = 20  # of each median, so that the initial costs of the model no longer matter


@dataclass(frozen=True, slots=True)
class BreakEven:
    """Context from which copying the cache takes no longer than replaying the tokens, for a model.

    Attributes:
        predicted_tokens: Intersection of the curves that a cost model learns from the medians of
            every second context; None if they do not intersect.
        measured_tokens: First context at which the median of copy is not above the median of
            replay; None if there is none.
        context_tokens: The longest measured context.
        link_bytes_per_s: Link speed at which both would take equally long at `context_tokens`, by
            the learnt curves; None if there is none.
    """

    model: str
    dtype: str
    predicted_tokens: int | None
    measured_tokens: int | None
    context_tokens: int
    link_bytes_per_s: float | None

    def __str__(self) -> str:
        link = "-"
        if self.link_bytes_per_s is not None:
            link = f"a link of {self.link_bytes_per_s / 1e6:,.1f} MB/s"
        return (
            f"break-even of {self.model} {self.dtype}: predicted at {self.predicted_tokens or '-'} "
            f"tokens, measured at {self.measured_tokens or '-'}; for {self.context_tokens} tokens: "
            f"{link}"
        )


@dataclass(frozen=True, slots=True)
class PredictorError:
    """Error of a predictor over the replays of the later half of the rounds.

    Attributes:
        predictor: `quadratic` (the cluster's), `linear` (the paper's) or `other rounds`: the median
            time of the same migration in all other rounds, earlier and later. The last one cannot
            be had in practice; its error shows how well the machine repeats itself.
        median_s: Median absolute error.
        worst_s: Largest absolute error.
        median_ratio: Median of |predicted / measured - 1|.
    """

    model: str
    dtype: str
    predictor: str
    num_migrations: int
    median_s: float
    worst_s: float
    median_ratio: float

    def __str__(self) -> str:
        return (
            f"predictor {self.predictor!r} of {self.model} {self.dtype}: median error "
            f"{self.median_ratio:.1%}, {1e3 * self.median_s:.1f} ms, worst "
            f"{1e3 * self.worst_s:.1f} ms, over {self.num_migrations} migrations"
        )


def medians(rows: Sequence[MigrationRow], value: str) -> dict[tuple[str, str, str, int], float]:
    """Return the median of a column by (model, dtype, strategy, asked context); skip None."""
    grouped: dict[tuple[str, str, str, int], list[float]] = {}
    for row in rows:
        key = (row.model, row.dtype, row.strategy, row.asked_context_tokens)
        number = getattr(row, value)
        if number is not None:
            grouped.setdefault(key, []).append(number)
    return {key: median(values) for key, values in grouped.items()}


def break_even(rows: Sequence[MigrationRow], kv_bytes_per_token: int) -> BreakEven | None:
    """Return the break-even of one model; None with fewer than two contexts of both strategies."""
    middle = medians(rows, "catch_up_s")
    model, dtype = rows[0].model, rows[0].dtype
    replay, copy = (
        {key[3]: value for key, value in middle.items() if key[2] == strategy}
        for strategy in (Strategy.REPLAY, Strategy.COPY)
    )
    contexts = sorted(set(replay) & set(copy))
    if len(contexts) < 2:
        return None
    costs = MigrationCostModel(kv_bytes_per_token)
    for context in contexts[::2] * _NUM_OBSERVATIONS:
        costs.observe(Strategy.REPLAY, context, replay[context])
        costs.observe(Strategy.COPY, context, copy[context])
    return BreakEven(
        model,
        dtype,
        predicted_tokens=costs.break_even_tokens,
        measured_tokens=next((one for one in contexts if copy[one] <= replay[one]), None),
        context_tokens=contexts[-1],
        link_bytes_per_s=costs.break_even_bytes_per_s(contexts[-1]),
    )


def predictor_errors(rows: Sequence[MigrationRow]) -> list[PredictorError]:
    """Return the error of each predictor over one model's rows, in the order of measurement."""
    replays = [row for row in rows if row.strategy == Strategy.REPLAY]
    later = replays[len(replays) // 2 :]
    if not later:
        return []
    return [
        _predictor_error("quadratic", later, [row.predicted_s for row in later]),
        _predictor_error("linear", later, [row.predicted_linear_s for row in later]),
        *_repeatability(replays, later),
    ]


def _repeatability(
    replays: Sequence[MigrationRow], later: Sequence[MigrationRow]
) -> Iterator[PredictorError]:
    expected = [(row, _in_other_rounds(row, replays)) for row in later]
    known = [(row, expected_s) for row, expected_s in expected if expected_s is not None]
    if known:
        rows, predicted_s = zip(*known, strict=True)
        yield _predictor_error("other rounds", rows, list(predicted_s))


def _in_other_rounds(row: MigrationRow, replays: Sequence[MigrationRow]) -> float | None:
    found = [
        one.catch_up_s
        for one in replays
        if one.asked_context_tokens == row.asked_context_tokens and one.round != row.round
    ]
    return median(found) if found else None


def _predictor_error(
    name: str, rows: Sequence[MigrationRow], predicted_s: list[float]
) -> PredictorError:
    pairs = list(zip(predicted_s, (row.catch_up_s for row in rows), strict=True))
    errors = [abs(predicted - measured) for predicted, measured in pairs]
    ratios = [abs(predicted / measured - 1) for predicted, measured in pairs]
    return PredictorError(
        model=rows[0].model,
        dtype=rows[0].dtype,
        predictor=name,
        num_migrations=len(rows),
        median_s=median(errors),
        worst_s=max(errors),
        median_ratio=median(ratios),
    )


def table(rows: Sequence[MigrationRow]) -> str:
    """Return a table of medians, a line per model, context and strategy."""
    lines = [
        f"{'model':14} {'dtype':9} {'context':>8} {'strategy':8} {'catch-up':>9} {'pause':>9} "
        f"{'token':>8} {'tokens':>6} {'MB':>8} {'recomp.':>8} {'slowdown':>8}"
    ]
    ordered = sorted(rows, key=_sort_key)
    for (model, dtype, context, strategy), group in groupby(ordered, key=_sort_key):
        some = list(group)
        slow = [row.source_slowdown for row in some if row.source_slowdown is not None]
        lines.append(
            f"{model:14} {dtype:9} {context:8} {strategy:8} "
            f"{1e3 * median(row.catch_up_s for row in some):6.1f} ms "
            f"{1e3 * median(row.pause_s for row in some):6.1f} ms "
            f"{1e3 * median(row.inter_token_s for row in some):5.1f} ms "
            f"{median(row.pause_tokens for row in some):6.2f} "
            f"{1e-6 * median(row.bytes_moved for row in some):8.3f} "
            f"{median(row.recomputed_tokens for row in some):8.0f} "
            f"{f'{median(slow):8.2f}' if slow else '       -'}"
        )
    return "\n".join(lines)


def _sort_key(row: MigrationRow) -> tuple[str, str, int, str]:
    return row.model, row.dtype, row.asked_context_tokens, row.strategy
