"""Formats of other projects and tables of one's own: read by their fields, or refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.traces.conftest import WriteTrace
from traces.cli import main
from traces.detect import detect_format
from traces.errors import TraceError
from traces.formats.table import Columns
from traces.read import ReadOptions, read_trace
from traces.report import TraceReport
from traces.rows import TraceRow
from traces.spec import WorkloadSpec
from traces.spec_dict import spec_from_dict
from traces.workload import workload_requests

ROWS = [TraceRow(0.0, "", 4808, 10), TraceRow(1.5, "", 31, 1)]


def table(names: str, *rows: str) -> str:
    return "\n".join((names, *rows)) + "\n"


def objects(*records: dict[str, Any]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


FORMATS = {
    "vidur": table("arrived_at,num_prefill_tokens,num_decode_tokens", "0.5,4808,10", "2.0,31,1"),
    "splitwise_sim": table(
        "request_id,request_type,application_id,arrival_timestamp,batch_size,prompt_size,token_size",
        "0,2,0,0,1,4808,10",
        "1,2,0,1.5,1,31,1",
    ),
    "llmservingsim": table(
        "input_toks\toutput_toks\tarrival_time_ns", "4808\t10\t46926808", "31\t1\t1546926808"
    ),
    "dynamo": objects(
        {"created_time": 0, "input_tokens": 4808, "output_tokens": 10},
        {"created_time": 1500.0, "input_tokens": 31, "output_tokens": 1},
    ),
    "aibrix": objects(
        {"timestamp": 7000, "requests": [{"prompt_length": 4808, "output_length": 10}]},
        {"timestamp": 8500, "requests": [{"Prompt Length": 31, "Output Length": 1}]},
    ),
    "table": table("arrival,prompt_len,gen_len", "0.5,4808,10", "2.0,31,1"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_recognised_and_read(write_trace: WriteTrace, name: str) -> None:
    path, report = write_trace(FORMATS[name]), TraceReport()

    rows = list(read_trace([path], None, None, report))

    assert [(row.source, row.input_tokens, row.output_tokens) for row in rows] == [
        (row.source, row.input_tokens, row.output_tokens) for row in ROWS
    ]
    assert [row.at_s for row in rows] == pytest.approx([0.0, 1.5])
    assert report.format == detect_format(path) == name


def test_json_lines_of_llmservingsim_note_that_prefixes_are_not_modelled(
    write_trace: WriteTrace,
) -> None:
    record = {"input_toks": 3, "output_toks": 4, "arrival_time_ns": 0.0, "input_tok_ids": [1, 2, 3]}
    report = TraceReport()

    rows = list(read_trace([write_trace(objects(record))], None, None, report))

    assert rows == [TraceRow(0.0, "", 3, 4)]
    assert "the reuse of prefixes is not modelled" in report.notes[0]


def test_requests_of_one_instant_of_aibrix_are_rows_with_their_models(
    write_trace: WriteTrace,
) -> None:
    requests = [
        {"prompt": "hi", "prompt_length": 2, "output_length": 5, "model": "a"},
        {"prompt": "ho", "prompt_length": 3, "output_length": 6, "model": "b"},
    ]

    rows = list(read_trace([write_trace(objects({"timestamp": 9, "requests": requests}))]))

    assert rows == [TraceRow(0.0, "a", 2, 5), TraceRow(0.0, "b", 3, 6)]


def test_an_output_length_that_is_null_is_an_error(write_trace: WriteTrace) -> None:
    request = {"prompt_length": 2, "output_length": None}

    with pytest.raises(TraceError, match="column 'output_length': the field is missing or null"):
        list(read_trace([write_trace(objects({"timestamp": 9, "requests": [request]}))]))


FOLLOW_UPS = (
    [{"timestamp": 0, "input_length": 5, "output_length": 5}, {"delay": 40}],
    [{"session_id": 1, "timestamp": 0, "input_length": 5, "output_length": 5}, {"delay_ms": 40}],
)


@pytest.mark.parametrize("records", FOLLOW_UPS)
def test_a_row_that_follows_an_answer_is_refused(
    write_trace: WriteTrace, records: list[dict[str, Any]]
) -> None:
    last = {**records[1], "input_length": 5, "output_length": 5}

    with pytest.raises(TraceError, match="follows the answer to another one") as caught:
        list(read_trace([write_trace(objects(records[0], last))]))
    assert caught.value.line == 2


def test_a_delay_beside_a_time_does_not_matter(write_trace: WriteTrace) -> None:
    lengths = {"input_length": 5, "output_length": 5, "session_id": 1}
    text = objects({"timestamp": 0, **lengths}, {"timestamp": 700, "delay": 40, **lengths})

    assert [row.at_s for row in read_trace([write_trace(text)])] == [0.0, 0.7]


REFUSED = {
    "a ShareGPT collection": json.dumps(
        [{"id": "x", "conversations": [{"from": "human", "value": "hi"}]}]
    ),
    "vLLM's custom data set": objects({"prompt": "hello", "output_tokens": 10}),
    "an OpenAI batch": objects({"custom_id": "1", "method": "POST", "url": "/v1", "body": {}}),
    "AIPerf's list of prompts": objects({"text_input": "hi", "output_length": 5}),
    "LLMServingSim's sessions": objects(
        {"session_id": 1, "arrival_time_ns": 0, "sub_requests": []}
    ),
    "a table of durations": table("HashOwner,HashApp,HashFunction,Average,Count", "a,b,c,1,2"),
    "but no column with a usual name for the time": table(
        "num_prefill_tokens,num_decode_tokens,pd_ratio", "5,6,1"
    ),
    "workload.columns=": table("when,how_many", "1,2"),
}


@pytest.mark.parametrize("problem", REFUSED)
def test_a_file_that_is_no_trace_is_refused_by_name(write_trace: WriteTrace, problem: str) -> None:
    with pytest.raises(TraceError, match=problem):
        list(read_trace([write_trace(REFUSED[problem])]))


MINE = table("when;who;p;g", "2.5;llama;4808;10", "4.0;llama;31;1")
COLUMNS = Columns(time="when", input="p", output="g", model="who")


def test_the_columns_of_a_table_can_be_named(write_trace: WriteTrace) -> None:
    rows = list(read_trace([write_trace(MINE)], ReadOptions(columns=COLUMNS)))

    assert rows == [TraceRow(0.0, "llama", 4808, 10), TraceRow(1.5, "llama", 31, 1)]


def test_the_fields_of_json_lines_can_be_named(write_trace: WriteTrace) -> None:
    text = objects({"when": 0, "p": 5, "g": 6, "who": "m"}, {"when": 2, "p": "7", "g": 8.0})

    rows = list(read_trace([write_trace(text)], ReadOptions(columns=COLUMNS)))

    assert rows == [TraceRow(0.0, "m", 5, 6), TraceRow(2.0, "", 7, 8)]


def test_a_named_column_that_is_missing_is_an_error(write_trace: WriteTrace) -> None:
    with pytest.raises(TraceError, match="column 'at': the column is missing; the file has when, "):
        list(read_trace([write_trace(MINE)], ReadOptions(columns=Columns("at", "p", "g"))))


@pytest.mark.parametrize(
    ("column", "stamps"),
    [
        ("arrival_ms", ("500", "2000")),
        ("arrival_time_us", ("500000", "2000000")),
        ("arrival", ("0.5", "2")),
        ("arrival", ("2024-05-10T00:00:59.5Z", "2024-05-10T02:01:01+02:00")),
        ("start_time", ("1777142838000", "1777142839500")),
    ],
)
def test_the_times_of_a_table_have_the_unit_of_their_name_or_are_dates(
    write_trace: WriteTrace, column: str, stamps: tuple[str, str]
) -> None:
    text = table(f"{column},input_tokens,output_tokens", *(f"{at},5,6" for at in stamps))

    assert [row.at_s for row in read_trace([write_trace(text)])] == pytest.approx([0.0, 1.5])


def test_columns_that_were_guessed_are_noted(write_trace: WriteTrace) -> None:
    path = write_trace(table("Arrival,Model,Prompt_Len,Gen_Len", "0,a,5,6"))
    report = TraceReport()

    rows = list(read_trace([path], None, None, report))

    assert rows == [TraceRow(0.0, "a", 5, 6)]
    expected = "{time: Arrival, input: Prompt_Len, output: Gen_Len, model: Model}, times in s"
    assert expected in report.notes[0]
    assert report.columns["time"] == "Arrival"


def test_two_columns_for_one_use_are_an_error(write_trace: WriteTrace) -> None:
    path = write_trace(table("arrival,start_time,prompt_len,gen_len", "0,1,5,6"))

    with pytest.raises(TraceError, match="arrival and start_time may both be the time"):
        list(read_trace([path]))


def test_a_table_without_lengths_gets_lengths_of_a_profile(write_trace: WriteTrace) -> None:
    path = str(write_trace(table("when,who", "0,a", "1,b")))
    spec = WorkloadSpec(kind="trace", path=path, columns=Columns("when", model="who"))

    requests = list(workload_requests(spec, ("a", "b"), 0))

    assert [item.request.model for item in requests] == ["a", "b"]
    assert all(item.output_tokens >= 1 for item in requests)


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"time": "t", "input": "p"}, "need both input and output"),
        ({"input": "p", "output": "g"}, "missing required field `time`"),
        ({"time": "t", "prompt": "p"}, "no field columns.prompt; there are input, model"),
    ],
)
def test_wrong_columns_are_an_error(columns: dict[str, str], problem: str) -> None:
    with pytest.raises(TraceError, match=problem):
        spec_from_dict({"kind": "trace", "path": "x", "columns": columns})


def test_columns_of_a_known_format_are_an_error() -> None:
    with pytest.raises(TraceError, match="columns belong to kind trace, not azure_llm"):
        WorkloadSpec(kind="azure_llm", path="x", columns=Columns("t"))


def test_describe_and_export_take_columns(write_trace: WriteTrace, tmp_path: Path) -> None:
    path, out = str(write_trace(MINE)), tmp_path / "jobs.jsonl"
    fields = ["kind=trace", f"path={path}", "columns.time=when", "columns.model=who"]
    fields += ["columns.input=p", "columns.output=g"]

    assert main(["describe", path, "--columns", "time=when,input=p,output=g"]) == 0
    assert main(["describe", path, "--columns", "input=p,output=g"]) == 2
    assert main(["export", str(out), "--set", *fields, "--models", "llama,qwen"]) == 0
    assert json.loads(out.read_text().splitlines()[1]) == {
        "timestamp": 1500.0,
        "input_length": 31,
        "output_length": 1,
        "model": "llama",
    }
