"""The gap at which a migration's source holds: small, no longer shrinking, or after many rounds."""

import pytest

from sllmcore.errors import UsageError
from sllmcore.migration_rounds import MigrationRounds, RoundSettings


def ends(*gaps: int) -> list[bool]:
    """Return, for each gap in turn, whether it is the last."""
    rounds = MigrationRounds(RoundSettings())
    return [rounds.end(gap) for gap in gaps]


def test_a_gap_of_final_gap_is_the_last() -> None:
    assert ends(2) == [True]
    assert ends(3) == [False]
    assert ends(100, 2) == [False, True]


def test_gaps_that_shrink_to_seven_tenths_go_on() -> None:
    assert ends(100, 71, 50) == [False, False, False]


def test_a_gap_that_hardly_shrinks_is_the_last() -> None:
    assert ends(100, 72) == [False, True]


def test_a_gap_of_a_few_tokens_goes_on_shrinking_by_one_token_a_round() -> None:
    assert ends(6, 5, 4, 3, 2) == [False, False, False, False, True]


def test_a_small_gap_that_does_not_shrink_is_the_last() -> None:
    assert ends(40, 3, 3) == [False, False, True]


def test_a_hiccup_costs_another_round_and_not_a_long_pause() -> None:
    """Seeded: any gap larger than the one before is the last; the client then waits for 12."""
    assert ends(40, 3, 12, 3) == [False, False, False, True]


def test_a_gap_that_grows_beyond_a_hiccup_is_the_last() -> None:
    assert ends(40, 44) == [False, True]


def test_hiccups_without_end_come_to_an_end_at_the_bound_of_rounds() -> None:
    assert ends(3, *[4] * 9) == [False] * 9 + [True]


def test_the_rounds_are_counted_without_the_last_gap() -> None:
    rounds = MigrationRounds(RoundSettings(max_rounds=2))

    assert rounds.num_rounds == 1
    assert not rounds.end(100)
    assert rounds.num_rounds == 2
    assert rounds.end(50)
    assert rounds.num_rounds == 2


@pytest.mark.parametrize(
    ("name", "value"), [("final_gap", -1), ("small_gap", -1), ("shrink", 0.0), ("max_rounds", 0)]
)
def test_settings_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=name):
        RoundSettings(**{name: value})  # type: ignore[arg-type]
