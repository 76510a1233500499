from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from traces.timestamps import TimestampClock


def test_seven_decimals_survive() -> None:
    clock = TimestampClock()

    clock.seconds("2023-11-16 18:17:03.9799600")

    assert clock.seconds("2023-11-16 18:17:04.0319601") == pytest.approx(0.0520001, abs=1e-12)


def test_stamps_with_and_without_decimals_and_zone_may_be_mixed() -> None:
    stamps = [
        "2024-05-10 00:00:00.250000+00:00",
        "2024-05-10 00:00:01+00:00",
        "2024-05-10 00:00:01.5",
        "2024-05-10T00:00:02Z",
        "2024-05-10 02:00:03.25+02:00",
        "2024-05-10 00:00:04-00:30",
    ]

    times = [TimestampClock().seconds_column(stamps), list(map(TimestampClock().seconds, stamps))]

    assert times[0] == [0.0, 0.75, 1.25, 1.75, 3.0, 1803.75]
    assert times[0][:5] == times[1][:5]


@given(
    st.lists(
        st.tuples(st.integers(0, 20 * 86_400 * 10**6), st.booleans(), st.booleans()), min_size=1
    )
)
def test_any_stamp_is_what_datetime_makes_of_it(parts: list[tuple[int, bool, bool]]) -> None:
    start = datetime(2024, 2, 20, tzinfo=UTC)
    times = [start + timedelta(microseconds=micros) for micros, _, _ in parts]
    stamps = []
    for at, (_, zone, decimals) in zip(times, parts, strict=True):
        at = at if decimals else at.replace(microsecond=0)
        text = at.replace(tzinfo=None).isoformat(" ", "microseconds" if decimals else "seconds")
        stamps.append(text + ("+00:00" if zone else ""))

    seconds = TimestampClock().seconds_column(stamps)

    zero = datetime.fromisoformat(stamps[0]).replace(tzinfo=UTC)
    expected = [
        (datetime.fromisoformat(stamp).replace(tzinfo=UTC) - zero).total_seconds()
        for stamp in stamps
    ]
    assert seconds == pytest.approx(expected, abs=1e-9)
