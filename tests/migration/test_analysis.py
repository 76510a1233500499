"""Analysis of the rows of the migration benchmark."""

from dataclasses import replace

import pytest

from experiments.benchmarks.migration.analysis import predictor_errors
from experiments.benchmarks.migration.row import MigrationRow

REPLAY = MigrationRow(
    model="m",
    dtype="float32",
    strategy="replay",
    asked_context_tokens=128,
    context_tokens=130,
    round=0,
    catch_up_s=1.0,
    pause_s=0.1,
    inter_token_s=0.1,
    bytes_moved=100,
    recomputed_tokens=130,
    source_slowdown=None,
    predicted_s=1.1,
    predicted_linear_s=2.0,
    chosen="replay",
)


def test_errors_are_those_of_the_later_half() -> None:
    early = [replace(REPLAY, round=number, predicted_s=9.0) for number in range(2)]
    late = [replace(REPLAY, round=number) for number in range(2, 4)]

    ratios = {one.predictor: one.median_ratio for one in predictor_errors([*early, *late])}

    assert ratios == pytest.approx({"quadratic": 0.1, "linear": 1.0, "other rounds": 0.0})


def test_the_error_of_other_rounds_measures_how_well_the_machine_repeats_itself() -> None:
    rows = [
        replace(REPLAY, round=number, catch_up_s=took_s, predicted_s=took_s)
        for number, took_s in enumerate((1.0, 1.0, 2.0, 2.0))
    ]
    other = replace(REPLAY, asked_context_tokens=256, catch_up_s=50.0, round=9)
    copied = replace(REPLAY, strategy="copy", catch_up_s=50.0, round=9)

    errors = {one.predictor: one for one in predictor_errors([copied, other, *rows])}

    assert errors["quadratic"].median_ratio == 0.0
    assert errors["other rounds"].num_migrations == 3
    assert (
        errors["other rounds"].median_s == 1.0
    )  # the third and fourth rounds: 2 s, others' median 1 s


def test_one_round_has_no_error_of_other_rounds() -> None:
    assert {one.predictor for one in predictor_errors([REPLAY])} == {"quadratic", "linear"}
