import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traces.errors import TraceError
from traces.rows import TraceRow
from traces.seeding import generator
from traces.statistics import (
    MAX_SPAN_S,
    GapStatistics,
    LengthCounts,
    SecondCounts,
    autocorrelation,
    gathered,
    index_of_dispersion,
)
from traces.summary import summary, summary_of


@settings(deadline=None)
@given(
    st.lists(st.floats(0.0, 5000.0), min_size=2, max_size=200),
    st.integers(1, 50),
)
def test_gaps_gathered_in_pieces_are_the_gaps_of_the_whole(times: list[float], size: int) -> None:
    arrivals = np.sort(np.array(times))
    gaps = GapStatistics()

    for low in range(0, len(arrivals), size):
        gaps.add(arrivals[low : low + size])

    expected = np.diff(arrivals)
    assert gaps.num == len(expected)
    assert gaps.mean_s == pytest.approx(np.mean(expected), abs=1e-9)
    if np.std(expected) > 1e-6:
        assert gaps.cv == pytest.approx(np.std(expected) / np.mean(expected), rel=1e-6)


def test_gap_quantiles_are_within_one_percent() -> None:
    gaps, drawn = GapStatistics(), generator(1, "gaps").lognormal(0.0, 2.0, 50_000)

    gaps.add(np.concatenate(([0.0], np.cumsum(drawn))))

    for q in (0.1, 0.5, 0.9, 0.99):
        assert gaps.quantile_s(q) == pytest.approx(np.quantile(drawn, q), rel=0.013)


@settings(deadline=None)
@given(
    st.lists(st.floats(0.0, 3000.0), min_size=1, max_size=200),
    st.integers(1, 60),
    st.sampled_from([1, 10, 60]),
)
def test_counts_per_window_are_those_of_a_histogram(
    times: list[float], size: int, window_s: int
) -> None:
    arrivals = np.sort(np.array(times))
    seconds = SecondCounts()

    for low in range(0, len(arrivals), size):
        seconds.add(arrivals[low : low + size])

    num = int((arrivals[-1] - arrivals[0]) // window_s)
    inside = (arrivals - arrivals[0]) // window_s
    expected = [int(np.sum(inside == window)) for window in range(num)]
    assert seconds.per_window(window_s).tolist() == expected


@given(st.lists(st.integers(0, 3000), min_size=1, max_size=300), st.floats(0.0, 1.0))
def test_length_quantiles_are_those_of_numpy(lengths: list[int], q: float) -> None:
    counts = LengthCounts()

    counts.add(lengths[:7])
    counts.add(lengths[7:])

    assert counts.quantile(q) == pytest.approx(np.quantile(lengths, q), abs=1e-6)
    assert counts.mean == pytest.approx(np.mean(lengths))
    assert counts.largest == max(lengths)


def test_the_index_of_dispersion_is_one_for_poisson_and_zero_for_a_beat() -> None:
    counts = generator(1, "counts").poisson(8.0, 20_000).astype(np.float64)

    assert index_of_dispersion(counts) == pytest.approx(1.0, abs=0.05)
    assert index_of_dispersion(np.full(50, 3.0)) == 0.0
    assert index_of_dispersion(np.array([3.0])) is None
    assert index_of_dispersion(np.zeros(9)) is None


def test_autocorrelation_of_an_alternation_is_minus_one() -> None:
    counts = np.array([1.0, 5.0] * 500)

    assert autocorrelation(counts, 1) == pytest.approx(-1.0, abs=0.01)
    assert autocorrelation(counts, 2) == pytest.approx(1.0, abs=0.01)
    assert autocorrelation(np.full(20, 2.0), 1) is None
    assert autocorrelation(np.array([1.0, 2.0]), 1) is None


def test_a_summary_has_popularity_only_if_sources_are_named() -> None:
    named = [TraceRow(float(i), "f" if i % 4 else "g", None, None) for i in range(40)]
    nameless = [TraceRow(float(i), "", 10, 2) for i in range(40)]

    first, second = summary_of(named), summary_of(nameless)

    assert (first.num_sources, first.top_1_percent_share, first.input_tokens) == (2, 0.75, None)
    assert (second.num_sources, second.top_1_percent_share) == (0, None)
    assert second.input_tokens is not None
    assert second.input_tokens.mean == 10.0


def test_one_row_can_be_described() -> None:
    numbers = summary_of([TraceRow(5.0, "", 10, 2)])

    assert (numbers.num_rows, numbers.span_s, numbers.rate_rps, numbers.gap_cv) == (
        1,
        0.0,
        0.0,
        None,
    )


def test_a_trace_without_rows_cannot_be_described() -> None:
    with pytest.raises(TraceError, match="no rows"):
        summary(gathered([]))


def test_a_trace_of_centuries_is_refused_before_memory_runs_out() -> None:
    rows = [TraceRow(0.0, "", 1, 1), TraceRow(MAX_SPAN_S * 40.0, "", 1, 1)]

    with pytest.raises(TraceError, match="the trace spans"):
        summary_of(rows)
