"""Observed demand and its forecast by WarmServe's formula."""

import pytest

from sllmcore.demand import Demand, OpenRequestCounts
from sllmcore.errors import UsageError


def _apply(demand: Demand, *changes: tuple[float, str]) -> None:
    """Apply changes: `+A`: a request for A opens; `-A`: one closes; `.`: time passes."""
    for now_s, change in changes:
        demand.advance(now_s)
        if change[0] == "+":
            demand.opened(change[1:])
        if change[0] == "-":
            demand.closed(change[1:])


def test_a_window_has_its_mean_and_its_peak() -> None:
    demand = Demand(8.0, 80.0, 1)

    _apply(demand, (0.0, "+A"), (2.0, "+A"), (4.0, "-A"), (6.0, "-A"), (8.0, "."))

    assert dict(demand.forecast()) == {"A": OpenRequestCounts(1.0, 2.0)}


def test_requests_open_at_the_end_of_a_window_count_in_the_next() -> None:
    demand = Demand(8.0, 80.0, 1)

    _apply(demand, (6.0, "+A"), (10.0, "+B"), (12.0, "-A"), (16.0, "."))

    assert dict(demand.forecast()) == {
        "A": OpenRequestCounts(0.5, 1.0),
        "B": OpenRequestCounts(0.75, 1.0),
    }


def test_windows_without_events_are_closed_one_by_one() -> None:
    demand = Demand(8.0, 80.0, 2)

    _apply(demand, (4.0, "+A"), (32.0, "."))

    assert dict(demand.forecast()) == {"A": OpenRequestCounts(1.0, 1.0)}
    assert demand.window_began_at_s == 32.0


def test_older_windows_count_half_as_much_each() -> None:
    demand = Demand(8.0, 80.0, 3)

    _apply(demand, (0.0, "+A"), (8.0, "-A"), (16.0, "+A"), (16.0, "+A"), (24.0, "-A"), (24.0, "-A"))

    # Means 1, 0, 2, the newest last: (2 + 0 / 2 + 1 / 4) / (1 + 1 / 2 + 1 / 4)
    assert dict(demand.forecast())["A"].mean == pytest.approx(2.25 / 1.75)


def test_demand_of_a_period_ago_is_expected_again() -> None:
    demand = Demand(8.0, 24.0, 1)

    _apply(demand, (8.0, "+A"), (16.0, "-A"), (32.0, "."))

    # Window 4 repeats window 1, and window 3 was as window 0: the same, once more.
    assert dict(demand.forecast())["A"] == OpenRequestCounts(1.0, 1.0)


def test_demand_that_did_not_repeat_is_subtracted() -> None:
    demand = Demand(8.0, 16.0, 1)

    _apply(demand, (0.0, "+A"), (16.0, "-A"), (24.0, "."))

    assert dict(demand.forecast())["A"] == OpenRequestCounts(0.0, 1.0)


def test_quiet_windows_are_counted_until_a_request_comes() -> None:
    demand = Demand(8.0, 80.0, 2)
    _apply(demand, (0.0, "+A"), (4.0, "-A"), (24.0, "."))

    assert demand.quiet_windows == 3
    demand.opened("A")
    assert demand.quiet_windows == 0


def test_old_windows_are_forgotten() -> None:
    demand = Demand(1.0, 4.0, 2)

    for second in range(100):
        _apply(demand, (float(second), "+A"), (second + 0.5, "-A"))

    assert len(demand._by_number) == len(demand._closed) <= 4 + 2 + 1


@pytest.mark.parametrize(("window_s", "period_s", "depth"), [(0, 8, 1), (8, 1, 1), (8, 8, 0)])
def test_windows_that_cannot_be_counted_are_refused(
    window_s: float, period_s: float, depth: int
) -> None:
    with pytest.raises(UsageError):
        Demand(window_s, period_s, depth)
