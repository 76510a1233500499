"""Wrong files, one per rule: each error has the file, line, column and value."""

import pytest

from tests.traces.conftest import WriteTrace
from traces.errors import TraceError
from traces.read import ReadOptions, read_trace
from traces.text_source import BLOCK_LINES

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
GOOD = "2024-05-10 00:00:00.009930+00:00,100,10\n"


def error_of(write_trace: WriteTrace, text: str, **options: object) -> TraceError:
    path = write_trace(text)
    with pytest.raises(TraceError) as caught:
        list(read_trace([path], ReadOptions(**options)))  # type: ignore[arg-type]
    assert caught.value.path == path
    return caught.value


@pytest.mark.parametrize(
    ("row", "column", "value"),
    [
        ("2024-05-10 00:00:01+00:00,abc,10", "ContextTokens", "abc"),
        ("2024-05-10 00:00:01+00:00,-5,10", "ContextTokens", "-5"),
        ("2024-05-10 00:00:01+00:00,nan,10", "ContextTokens", "nan"),
        ("2024-05-10 00:00:01+00:00,10,inf", "GeneratedTokens", "inf"),
        ("2024-05-10 00:00:01+00:00,10,-inf", "GeneratedTokens", "-inf"),
        ("2024-05-10 00:00:01+00:00,10,1.5", "GeneratedTokens", "1.5"),
        ("2024-05-10 00:00:01+00:00,10,", "GeneratedTokens", ""),
        ("2024-05-10 00:00:01+00:00,1_0,1", "ContextTokens", "1_0"),
        ("2024-05-10 00:00:01+00:00,٣,1", "ContextTokens", "٣"),
        ("2024-05-10 00:00:01+00:00,99999999999,1", "ContextTokens", "99999999999"),
        ("10/05/2024 00:00:01,10,1", "TIMESTAMP", "10/05/2024 00:00:01"),
        ("1715299201.5,10,1", "TIMESTAMP", "1715299201.5"),
        ("2024-13-10 00:00:01,10,1", "TIMESTAMP", "2024-13-10 00:00:01"),
        ("2024-05-10 00:00:01 UTC,10,1", "TIMESTAMP", "2024-05-10 00:00:01 UTC"),
        ("2024-05-10 00:00:01.,10,1", "TIMESTAMP", "2024-05-10 00:00:01."),
        (",10,1", "TIMESTAMP", ""),
    ],
)
def test_a_bad_cell_is_named(write_trace: WriteTrace, row: str, column: str, value: str) -> None:
    error = error_of(write_trace, HEADER + GOOD * 3 + row + "\n" + GOOD, format="azure_llm")

    assert (error.line, error.column, error.value) == (5, column, value)
    assert f"trace.csv:5, column '{column}'" in str(error)


def test_the_line_of_a_bad_cell_is_right_beyond_the_first_block(write_trace: WriteTrace) -> None:
    text = HEADER + GOOD * (BLOCK_LINES + 7) + "2024-05-10 00:00:01+00:00,x,1\n"

    error = error_of(write_trace, text)

    assert error.line == BLOCK_LINES + 9


def test_blank_lines_are_skipped_and_counted(write_trace: WriteTrace) -> None:
    error = error_of(write_trace, HEADER + GOOD + "\n\n" + GOOD + "2024-05-10 00:00:01,x,1\n")

    assert error.line == 6


@pytest.mark.parametrize("row", ["2024-05-10 00:00:01,1", "2024-05-10 00:00:01,1,2,3", "garbage"])
def test_a_ragged_row_is_an_error(write_trace: WriteTrace, row: str) -> None:
    error = error_of(write_trace, HEADER + GOOD + row + "\n")

    assert error.line == 3
    assert "cells under a header of 3 columns" in str(error)


def test_a_short_and_a_long_row_together_are_an_error(write_trace: WriteTrace) -> None:
    text = HEADER + "2024-05-10 00:00:01,1\n" + "2024-05-10 00:00:01,1,2,3\n"

    assert error_of(write_trace, text).line == 2


def test_an_unclosed_quote_is_an_error(write_trace: WriteTrace) -> None:
    error = error_of(write_trace, HEADER + GOOD + '"2024-05-10 00:00:01,1,2\n' + GOOD)

    assert error.line == 3
    assert "not CSV" in str(error)


def test_quoted_cells_are_read(write_trace: WriteTrace) -> None:
    path = write_trace(
        '"TIMESTAMP","ContextTokens","GeneratedTokens"\n"2024-05-10 00:00:01","7","8"\n'
    )

    rows = list(read_trace([path]))

    assert [(row.input_tokens, row.output_tokens) for row in rows] == [(7, 8)]


def test_a_missing_column_is_an_error(write_trace: WriteTrace) -> None:
    error = error_of(write_trace, "TIMESTAMP,ContextTokens\n2024-05-10 00:00:01,1\n")

    assert "looks like azure_llm, but lacks the columns GeneratedTokens" in str(error)


def test_a_missing_column_is_named_under_an_override(write_trace: WriteTrace) -> None:
    error = error_of(write_trace, "TIMESTAMP,ContextTokens\n", format="azure_llm")

    assert (error.line, error.column) == (1, "GeneratedTokens")


def test_a_column_that_appears_twice_is_an_error(write_trace: WriteTrace) -> None:
    header = "TIMESTAMP,ContextTokens,GeneratedTokens,ContextTokens\n"

    error = error_of(write_trace, header + "2024-05-10 00:00:01,1,2,3\n")

    assert (error.line, error.column) == (1, "ContextTokens")


def test_reordered_columns_are_read_by_name(write_trace: WriteTrace) -> None:
    text = "GeneratedTokens,Extra,TIMESTAMP,ContextTokens\n5,x,2024-05-10 00:00:01,900\n"

    rows = list(read_trace([write_trace(text)]))

    assert [(row.input_tokens, row.output_tokens) for row in rows] == [(900, 5)]


def test_an_empty_file_is_an_error(write_trace: WriteTrace) -> None:
    assert "the file is empty" in str(error_of(write_trace, ""))


def test_an_empty_gzip_file_is_an_error(write_trace: WriteTrace) -> None:
    path = write_trace("", "empty.gz", zipped=True)

    with pytest.raises(TraceError, match="the file is empty"):
        list(read_trace([path], ReadOptions("burstgpt")))


def test_a_header_without_rows_is_a_trace_without_rows(write_trace: WriteTrace) -> None:
    assert list(read_trace([write_trace(HEADER)])) == []


def test_an_unknown_first_line_is_an_error(write_trace: WriteTrace) -> None:
    assert "no known trace format" in str(error_of(write_trace, "alpha,beta\n1,2\n"))


def test_whole_floats_are_token_counts(write_trace: WriteTrace) -> None:
    rows = list(read_trace([write_trace(HEADER + "2024-05-10 00:00:01,472.0,18.0\n")]))

    assert [(row.input_tokens, row.output_tokens) for row in rows] == [(472, 18)]


def test_files_of_two_formats_are_not_one_trace(write_trace: WriteTrace) -> None:
    first = write_trace(HEADER + GOOD)
    second = write_trace("app,func,end_timestamp,duration\n", "second.csv")

    with pytest.raises(TraceError, match=r"second\.csv: is in format azure_functions_2021"):
        list(read_trace([first, second]))
