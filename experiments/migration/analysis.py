"""What the rows say: medians, the break-even of replay against copy, the predictor's error."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import median

import numpy as np

from experiments.migration.row import Row
from sllmreal.migration.cost_model import Strategy


@dataclass(frozen=True, slots=True)
class BreakEven:
    """Of one model: lines through the medians, catch_up_s = fixed + context * per_token.

    `predicted_tokens` is where lines fitted to every other context cross, `measured` the first
    context at which the copy's median is not above the replay's; None where there is none.
    `bytes_per_s` is the link from which on copying a long context would be sooner.
    """

    model: str
    dtype: str
    replay_token_s: float
    copy_token_s: float
    bytes_per_s: float
    predicted_tokens: float | None
    measured_tokens: int | None


@dataclass(frozen=True, slots=True)
class PredictorError:
    """Of `a * tokens + b` learnt on the way, over the replays of the later half of the rounds."""

    model: str
    dtype: str
    num_migrations: int
    median_s: float
    worst_s: float
    median_ratio: float


@dataclass(frozen=True, slots=True)
class _Line:
    fixed: float
    slope: float


def medians(rows: Sequence[Row], value: str) -> dict[tuple[str, str, str, int], float]:
    """By model, dtype, strategy and context asked for."""
    grouped: dict[tuple[str, str, str, int], list[float]] = {}
    for row in rows:
        key = (row.model, row.dtype, row.strategy, row.asked_context_tokens)
        number = getattr(row, value)
        if number is not None:
            grouped.setdefault(key, []).append(number)
    return {key: median(values) for key, values in grouped.items()}


def break_even(rows: Sequence[Row], kv_bytes_per_token: int) -> BreakEven | None:
    """Of one model's rows; None with fewer than two contexts of both strategies."""
    curves = {
        strategy: {
            key[3]: value
            for key, value in medians(rows, "catch_up_s").items()
            if key[2] == strategy
        }
        for strategy in (Strategy.REPLAY, Strategy.COPY)
    }
    replay, copy = curves[Strategy.REPLAY], curves[Strategy.COPY]
    contexts = sorted(set(replay) & set(copy))
    if len(contexts) < 2:
        return None
    known = contexts[::2] if len(contexts) > 3 else contexts
    lines = [_fitted(known, [curve[one] for one in known]) for curve in (replay, copy)]
    gain = lines[0].slope - lines[1].slope
    crossing = (lines[1].fixed - lines[0].fixed) / gain if gain > 0 else None
    return BreakEven(
        model=rows[0].model,
        dtype=rows[0].dtype,
        replay_token_s=lines[0].slope,
        copy_token_s=lines[1].slope,
        bytes_per_s=kv_bytes_per_token / lines[0].slope if lines[0].slope > 0 else 0.0,
        predicted_tokens=None if crossing is None else max(0.0, crossing),
        measured_tokens=next((one for one in contexts if copy[one] <= replay[one]), None),
    )


def predictor_error(rows: Sequence[Row]) -> PredictorError | None:
    replays = [row for row in rows if row.strategy == Strategy.REPLAY]
    later = replays[len(replays) // 2 :]
    if not later:
        return None
    errors = [abs(row.predicted_s - row.catch_up_s) for row in later]
    ratios = [abs(row.predicted_s / row.catch_up_s - 1) for row in later]
    return PredictorError(
        later[0].model, later[0].dtype, len(later), median(errors), max(errors), median(ratios)
    )


def table(rows: Sequence[Row]) -> str:
    """Medians, a line per model, context and strategy."""
    lines = [
        f"{'model':14} {'dtype':9} {'context':>8} {'strategy':8} {'catch-up':>9} {'pause':>9} "
        f"{'token':>8} {'MB':>8} {'recomp.':>8} {'slowdown':>8}"
    ]
    ordered = sorted(rows, key=_place)
    for (model, dtype, context, strategy), group in groupby(ordered, key=_place):
        some = list(group)
        slow = [row.source_slowdown for row in some if row.source_slowdown is not None]
        lines.append(
            f"{model:14} {dtype:9} {context:8} {strategy:8} "
            f"{1e3 * median(row.catch_up_s for row in some):6.1f} ms "
            f"{1e3 * median(row.pause_s for row in some):6.1f} ms "
            f"{1e3 * median(row.inter_token_s for row in some):5.1f} ms "
            f"{1e-6 * median(row.bytes_moved for row in some):8.3f} "
            f"{median(row.recomputed_tokens for row in some):8.0f} "
            f"{f'{median(slow):8.2f}' if slow else '       -'}"
        )
    return "\n".join(lines)


def _place(row: Row) -> tuple[str, str, int, str]:
    return row.model, row.dtype, row.asked_context_tokens, row.strategy


def _fitted(contexts: Sequence[int], times_s: Sequence[float]) -> _Line:
    slope, fixed = np.polyfit(contexts, times_s, 1)
    return _Line(float(fixed), float(slope))
