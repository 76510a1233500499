import json
from pathlib import Path

import pytest

from tests.traces.conftest import WriteTrace
from traces.account import Account
from traces.detect import detect_format
from traces.errors import TraceError
from traces.read import ReadOptions, read_trace
from traces.rows import TraceRow

BURST_1 = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
BURST_3 = "Session ID,Elapsed time," + BURST_1


def test_azure_llm_times_start_at_the_first_row_and_go_on_over_files(
    write_trace: WriteTrace,
) -> None:
    header = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    parts = [
        write_trace(header + f"2024-05-10 00:00:{second:02d}+00:00,{second},1\n", f"{second}.csv")
        for second in (10, 40)
    ]

    rows = list(read_trace(parts))

    assert rows == [TraceRow(0.0, "", 10, 1), TraceRow(30.0, "", 40, 1)]


def test_functions_2021_arrive_at_end_minus_duration(write_trace: WriteTrace) -> None:
    text = "app,func,end_timestamp,duration\na,f,10.5,0.5\na,g,0.25,0.5\nb,f,12.0,1.0\n"

    rows = list(read_trace([write_trace(text)], ReadOptions(tolerance_s=20.0)))

    assert rows == [
        TraceRow(0.0, "a/g", None, None),  # began before the trace did
        TraceRow(10.0, "a/f", None, None),
        TraceRow(11.0, "b/f", None, None),
    ]


@pytest.mark.parametrize(
    ("row", "column"),
    [("a,f,1.0,-1", "duration"), ("a,f,nan,1", "end_timestamp"), ("a,,1.0,1", "func")],
)
def test_a_bad_functions_2021_cell_is_named(write_trace: WriteTrace, row: str, column: str) -> None:
    with pytest.raises(TraceError) as caught:
        list(read_trace([write_trace("app,func,end_timestamp,duration\n" + row)]))
    assert (caught.value.line, caught.value.column) == (2, column)


def test_all_parts_of_burstgpt_are_read_by_column_name(write_trace: WriteTrace) -> None:
    first = write_trace(BURST_1 + "5,ChatGPT,472,18,490,Conversation log\n", "1.csv")
    third = write_trace(BURST_3 + "s1,3.5,9,GPT-4,100,20,120,API log\n", "3.csv")

    rows = list(read_trace([first, third]))

    assert rows == [TraceRow(0.0, "ChatGPT", 472, 18), TraceRow(4.0, "GPT-4", 100, 20)]


def test_failed_burstgpt_rows_are_dropped_and_counted_or_kept(write_trace: WriteTrace) -> None:
    path = write_trace(BURST_1 + "5,ChatGPT,472,0,472,API log\n6,ChatGPT,4,1,5,API log\n")
    dropping, keeping = Account(), Account()

    dropped = list(read_trace([path], account=dropping))
    kept = list(read_trace([path], ReadOptions(failed_rows="keep"), keeping))

    assert dropped == [TraceRow(1.0, "ChatGPT", 4, 1)]
    assert (dropping.rows_read, dropping.failed_dropped) == (2, 1)
    assert [row.output_tokens for row in kept] == [0, 1]
    assert (keeping.rows_read, keeping.failed_dropped) == (2, 0)


def test_mooncake_is_read_from_json_lines_and_from_csv(write_trace: WriteTrace) -> None:
    records = [(0, 6758, 500), (3000, 7319, 490)]
    lines = "".join(
        json.dumps({"timestamp": t, "input_length": i, "output_length": o, "hash_ids": [1, 2]})
        + "\n"
        for t, i, o in records
    )
    table = "timestamp,input_length,output_length,hash_ids\n" + "".join(
        f"{t},{i},{o},1 2\n" for t, i, o in records
    )

    from_json = list(read_trace([write_trace(lines, "m.jsonl")]))
    from_csv = list(read_trace([write_trace(table, "m.csv.gz", zipped=True)]))

    assert from_json == from_csv
    assert from_csv == [TraceRow(0.0, "", 6758, 500), TraceRow(3.0, "", 7319, 490)]


@pytest.mark.parametrize(
    ("line", "column", "problem"),
    [
        ('{"timestamp": 1, "input_length": 2}', "output_length", "the field is missing"),
        ('{"timestamp": NaN, "input_length": 2, "output_length": 3}', "timestamp", "finite"),
        ('{"timestamp": -1, "input_length": 2, "output_length": 3}', "timestamp", "0 or more"),
        ('{"timestamp": 1, "input_length": -2, "output_length": 3}', "input_length", "whole"),
        ('{"timestamp": 1, "input_length": 2.5, "output_length": 3}', "input_length", "whole"),
        ('{"timestamp": 1, "input_length": "2", "output_length": 3}', "input_length", "number"),
        ('{"timestamp": 1, "input_length": true, "output_length": 3}', "input_length", "number"),
        ('{"timestamp": 1, "input_length": 2, "output_length": null}', "output_length", "number"),
        ('{"timestamp": 1, "input_length": 2, "output_length": 3, "model": 7}', "model", "string"),
        ('{"timestamp": 1, "input_le', None, "not JSON"),
        ("[1, 2, 3]", None, "expected a JSON object"),
    ],
)
def test_a_bad_json_line_is_named(
    write_trace: WriteTrace, line: str, column: str | None, problem: str
) -> None:
    good = '{"timestamp": 0, "input_length": 2, "output_length": 3}\n'

    with pytest.raises(TraceError, match=problem) as caught:
        list(read_trace([write_trace(good + line + "\n")]))
    assert (caught.value.line, caught.value.column) == (2, column)


def test_functions_2019_counts_are_met_minute_by_minute(write_trace: WriteTrace) -> None:
    header = "HashOwner,HashApp,HashFunction,Trigger,1,2,3\n"
    day = write_trace(header + "o,a,f,http,2,0,1\no,a,g,timer,0,3,0\no,b,f,http,0,0,1\n")

    rows = list(read_trace([day]))

    called = sorted((int(row.at_s // 60), row.source) for row in rows)
    assert called == [
        *[(0, "a/f")] * 2,
        *[(1, "a/g")] * 3,
        (2, "a/f"),
        (2, "b/f"),
    ]
    assert [row.at_s for row in rows] == sorted(row.at_s for row in rows)


def test_empty_cells_and_quotes_in_a_functions_2019_file_are_read(
    write_trace: WriteTrace,
) -> None:
    path = write_trace('HashApp,HashFunction,1,2,3\na,f,,1,\n\n"a","g","2",0,0\nb,f,0,0,3\n')

    rows = list(read_trace([path]))

    assert [row.source for row in rows] == ["a/g", "a/g", "a/f", "b/f", "b/f", "b/f"]


def test_functions_2019_days_follow_each_other(write_trace: WriteTrace) -> None:
    days = [
        write_trace("HashFunction,1,2\nf,0,1\nf,1,0\n", "d01.csv"),
        write_trace("2,HashFunction,1\n5,g,0\n", "d02.csv"),
    ]

    rows = list(read_trace(days))

    called = [(int(row.at_s // 60), row.source) for row in rows]
    assert called == [(0, "f"), (1, "f"), *[(3, "g")] * 5]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("HashFunction,1,2\nf,1,x\n", "trace.csv:2, column '2': expected a whole number"),
        ("HashFunction,1,2\nf,1,-3\n", "expected a whole number of invocations.*'-3'"),
        ("HashFunction,1,2\nf,1,2.5\n", "expected a whole number of invocations.*'2.5'"),
        ("HashFunction,1,2\nf,1,99999999999999999999\n", "at most 1000000000 invocations"),
        ("HashFunction,1,2\nf,1,\u0663\n", "expected a whole number of invocations"),
        ("HashFunction,1,2\nf,1,2,3\n", "4 cells under a header of 3 columns"),
        ("HashFunction,1,2\nf\n", "1 cells under a header of 3 columns"),
        ("HashFunction,1,2\n,1,2\n", "column 'HashFunction': expected a name"),
        ("HashFunction,1,2\nf,1\n", "2 cells under a header of 3 columns"),
        ("HashFunction,1,3\nf,1,2\n", "column '2': the minute column is missing"),
        ("HashFunction,1,1\nf,1,2\n", "column '1': the column appears twice"),
        ("HashApp,1,2\na,1,2\n", "column 'HashFunction': the column is missing"),
        ("HashFunction,Trigger\nf,http\n", "no minute columns"),
    ],
)
def test_a_hostile_functions_2019_file_is_an_error(
    write_trace: WriteTrace, text: str, problem: str
) -> None:
    with pytest.raises(TraceError, match=problem):
        list(read_trace([write_trace(text)], ReadOptions("azure_functions_2019")))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("TIMESTAMP,ContextTokens,GeneratedTokens", "azure_llm"),
        ("TIMESTAMP,NumImages,ContextTokens,GeneratedTokens", "azure_llm"),
        ("HashOwner,HashApp,HashFunction,Trigger,1,2,3", "azure_functions_2019"),
        ("HashFunction,1,2", "azure_functions_2019"),
        ("app,func,end_timestamp,duration", "azure_functions_2021"),
        (BURST_1, "burstgpt"),
        (BURST_3, "burstgpt"),
        ("timestamp,input_length,output_length,hash_ids", "mooncake"),
        ('{"timestamp": 0, "input_length": 1, "output_length": 2}', "mooncake"),
        ("category,model,client,timestamp_s,rate_rps,cv,pattern,shape,scale", "servegen"),
        ("0,0,0,,0,0", "servegen"),
    ],
)
def test_the_first_line_identifies_the_format(
    write_trace: WriteTrace, line: str, expected: str
) -> None:
    assert detect_format(write_trace(line.rstrip() + "\n")) == expected


def test_the_header_of_a_parquet_file_named_csv_is_no_format(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"PAR1" + bytes(100))

    with pytest.raises(TraceError, match="Parquet"):
        detect_format(path)
