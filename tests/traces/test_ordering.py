import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.traces.conftest import WriteTrace
from traces.errors import TraceError
from traces.ordering import TimeOrder
from traces.read import ReadOptions, read_trace
from traces.rows import RowBatch, TraceRow
from traces.text_source import TextSource


def ordered(times: list[float], tolerance_s: float, batch: int = 3) -> list[float]:
    rows = [TraceRow(at_s, str(place), None, None) for place, at_s in enumerate(times)]
    order = TimeOrder(tolerance_s)
    batches = (
        RowBatch(rows[low : low + batch], range(low, low + batch))
        for low in range(0, len(rows), batch)
    )
    return [row.at_s for row in (*order.ordered(batches, TextSource("t.csv")), *order.rest())]


@given(
    st.lists(st.integers(0, 1000), max_size=60),
    st.lists(st.integers(0, 5), min_size=60, max_size=60),
    st.integers(1, 9),
)
def test_steps_back_within_the_tolerance_are_sorted_in(
    starts: list[int], jitter: list[int], batch: int
) -> None:
    times = [float(start + late) for start, late in zip(sorted(starts), jitter, strict=False)]

    assert ordered(times, 5.0, batch) == sorted(times)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=40), st.integers(1, 9))
def test_rows_are_sorted_or_refused_whatever_the_batches(times: list[int], batch: int) -> None:
    floats = [float(at) for at in times]
    latest = 0.0
    fits = True
    for at_s in floats:
        latest = max(latest, at_s)
        fits = fits and at_s >= latest - 4.0

    if fits:
        assert ordered(floats, 4.0, batch) == sorted(floats)
    else:
        with pytest.raises(TraceError, match="time goes back"):
            ordered(floats, 4.0, batch)


def test_rows_of_one_instant_keep_the_order_of_the_file(write_trace: WriteTrace) -> None:
    text = "timestamp,input_length,output_length\n5000,1,1\n7000,2,1\n5000,3,1\n5000,4,1\n"

    rows = list(read_trace([write_trace(text)]))

    assert [row.input_tokens for row in rows] == [1, 3, 4, 2]


def test_a_step_back_beyond_the_tolerance_names_its_line(write_trace: WriteTrace) -> None:
    path = write_trace("timestamp,input_length,output_length\n0,1,1\n\n60000,2,1\n30000,3,1\n")

    with pytest.raises(TraceError, match=r"goes back by 30\.0+ s.*tolerance of 10 s") as caught:
        list(read_trace([path]))
    assert caught.value.line == 5


def test_a_larger_tolerance_sorts_the_same_file(write_trace: WriteTrace) -> None:
    path = write_trace("timestamp,input_length,output_length\n0,1,1\n60000,2,1\n30000,3,1\n")

    rows = list(read_trace([path], ReadOptions(tolerance_s=60.0)))

    assert [row.input_tokens for row in rows] == [1, 3, 2]


def test_a_part_that_starts_before_the_end_of_the_previous_part_is_an_error(
    write_trace: WriteTrace,
) -> None:
    parts = [
        write_trace(f"timestamp,input_length,output_length\n{time_ms},1,1\n", f"part{time_ms}.csv")
        for time_ms in (100_000, 5_000)
    ]

    with pytest.raises(TraceError, match=r"part5000\.csv:2: time goes back"):
        list(read_trace(parts))


def test_a_negative_tolerance_is_refused() -> None:
    with pytest.raises(TraceError, match="tolerance_s must be 0 or more, got -1"):
        TimeOrder(-1.0)
